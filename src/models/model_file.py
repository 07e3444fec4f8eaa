"""The model file: weights and metadata."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from src.data.dataset import Dataset
from src.data.tensor_file import explain_damage, load_tensors, save_tensors
from src.models.inference import Classifier
from src.models.registry import create_model
from src.params.base import Section
from src.preprocessing import Normalization


class ModelMetadata(Section):
    """What is needed to use the weights, and what they were computed with.

    Attributes:
        network: value of `model.name`.
        classes: class names, in the order of the network's outputs.
        input_shape: channels, height and width of an image.
        source: `prepare.dataset` of the training images.
        fit: how image files are fitted into this shape: pad, crop or stretch.
        temperature: the logits are divided by it.
        environment: device, precision, threads and torch version of the training run.
        run: the parameters of training that are not 0, false or empty, and the SHA-256 of the training images.
    """

    network: str
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    source: str
    fit: str
    normalization: Normalization
    test_time_augmentation: str
    temperature: float
    environment: dict[str, str | int]
    run: dict[str, Any]


def save_model(
    path: Path, classifier: Classifier, train_set: Dataset, environment: dict[str, str | int], run: dict[str, Any]
) -> None:
    """Write weights and metadata.

    Args:
        environment: what `DeviceSetup.environment` returns.
        run: what `describe_run` returns.
    """
    metadata = ModelMetadata(
        network=run["model"]["name"],
        classes=train_set.classes,
        input_shape=train_set.image_shape,
        source=train_set.source,
        fit=train_set.fit,
        normalization=classifier.normalization,
        test_time_augmentation=classifier.test_time_augmentation,
        temperature=classifier.temperature,
        environment=environment,
        run=run,
    )
    save_tensors(path, to_arrays(classifier.net.state_dict()), metadata.model_dump(mode="json"))


def to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copy tensors of any device and memory layout to contiguous arrays."""
    return {name: tensor.detach().cpu().contiguous().numpy() for name, tensor in tensors.items()}


def load_model(path: Path) -> tuple[Classifier, ModelMetadata]:
    """Return the classifier with its weights, and its metadata.

    Raises:
        PipelineError: the file is missing or damaged, or a tensor is missing, unexpected or of the wrong shape.
    """
    with explain_damage("train", path, "a model of this pipeline"):
        arrays, values = load_tensors(path)
        metadata = ModelMetadata.model_validate_json(json.dumps(values))
        net = create_model(metadata.network, len(metadata.classes), metadata.input_shape)
        net.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        # channels_last is a third faster for convolutions on CPU
        net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        settings = metadata.normalization, metadata.test_time_augmentation, metadata.temperature
        return Classifier(net, *settings), metadata
