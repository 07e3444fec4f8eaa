"""The model file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from torch import nn

from src.data.tensor_file import load_tensors, save_tensors
from src.models.inference import Classifier
from src.models.model_file import ModelMetadata, load_model, save_model
from src.models.registry import Shape, create_model
from src.preprocessing import Normalization
from src.runtime.errors import PipelineError
from tests.helpers import DIGITS, MNIST, random_dataset

RUN = {"model": {"name": "net"}, "train": {"epochs": 5}, "data": {}}


def save(path: Path, name: str, shape: Shape = MNIST) -> nn.Module:
    """Write the file of an untrained network, and return the network."""
    net = create_model(name, 10, shape).to(memory_format=torch.channels_last)
    normalize = Normalization(mean=[0.1] * shape[0], std=[0.3] * shape[0])
    train_set = random_dataset(10, side=shape[1], channels=shape[0])
    save_model(path, Classifier(net, normalize, "shift"), train_set, {"threads": 1}, RUN | {"model": {"name": name}})
    return net


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of an untrained `net`."""
    save(tmp_path / "model.safetensors", "net")
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(("name", "shape"), [("dash", MNIST), ("mobilenet_v3_small", (3, 32, 32))])
def test_saved_model_is_loaded_unchanged(tmp_path: Path, name: str, shape: Shape) -> None:
    net = save(tmp_path / "model", name, shape)
    classifier, metadata = load_model(tmp_path / "model")
    assert metadata == ModelMetadata(
        network=name,
        classes=DIGITS,
        input_shape=shape,
        source="folder",
        fit="pad",
        normalization=Normalization(mean=[0.1] * shape[0], std=[0.3] * shape[0]),
        test_time_augmentation="shift",
        temperature=1.0,
        environment={"threads": 1},
        run=RUN | {"model": {"name": name}},
    )
    assert (classifier.normalization, classifier.test_time_augmentation) == (metadata.normalization, "shift")
    for key, tensor in net.state_dict().items():
        assert torch.equal(classifier.net.state_dict()[key], tensor)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not a file that this pipeline wrote ("),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\xff"), "the content has SHA-256"),
        (lambda path: save_file(load_tensors(path)[0], path), "not a file that this pipeline wrote (KeyError"),
    ],
)
def test_missing_damaged_or_foreign_file_is_an_error(path: Path, change: Callable[[Path], Any], message: str) -> None:
    change(path)
    with pytest.raises(PipelineError) as error:
        load_model(path)
    assert str(error.value).startswith(f"error: {path} is not a model of this pipeline: {message}")
    assert str(error.value).endswith("hint: dvc repro --force --single-item train")


@pytest.mark.parametrize(
    ("tensors", "changes", "message"),
    [
        ({"extra": np.zeros(9, np.float32)}, {}, "Unexpected key"),
        ({"fc2.bias": np.zeros(9, np.float32)}, {}, "size mismatch for fc2.bias"),
        ({}, {"classes": 5, "normalization": None}, "2 validation errors"),
        ({}, {"network": "resnet18"}, r"Missing key\(s\) in state_dict"),
    ],
)
def test_content_that_does_not_fit_the_network_is_an_error(
    path: Path, tensors: dict[str, np.ndarray], changes: dict[str, object], message: str
) -> None:
    weights, values = load_tensors(path)
    save_tensors(path, weights | tensors, values | changes)
    with pytest.raises(PipelineError, match=f"is not a model of this pipeline: (.|\n)*{message}"):
        load_model(path)
