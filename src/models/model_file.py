"""The model file: the weights, and what is needed to use them."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from src.data.tensor_file import load_tensors, save_tensors, written_by
from src.models.net import NETWORKS
from src.params import Network, Normalize, Section


class Description(Section):
    """What is needed to use the weights, and what they were computed with."""

    network: Network
    classes: tuple[str, ...]
    normalize: Normalize
    fingerprint: dict[str, str | int]


def save_model(path: Path, net: nn.Module, description: Description) -> None:
    """Write the weights and `description`."""
    save_tensors(path, to_arrays(net.state_dict()), description.model_dump(mode="json"))


def to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Of any device and layout in memory, as `save_tensors` takes them."""
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}


def load_model(path: Path) -> tuple[nn.Module, Description]:
    """The network with its weights, and what `save_model` was told.

    Raises PipelineError unless the file is whole, of this pipeline, and holds exactly the tensors of that network, by
    name, shape and dtype, all finite.
    """
    with written_by("train", path, "a model of this pipeline"):
        arrays, about = load_tensors(path)
        description = Description.model_validate_json(json.dumps(about))
        net = NETWORKS[description.network](len(description.classes))
        weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
        net.load_state_dict(weights)
        for name, tensor in net.state_dict().items():
            if weights[name].dtype != tensor.dtype or not tensor.isfinite().all():
                raise ValueError(f"{name} of {weights[name].dtype}, expected {tensor.dtype}, nothing NaN or infinite")
        return net, description
