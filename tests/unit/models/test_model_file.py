"""The model file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from src.data.tensor_file import load_tensors, save_tensors
from src.models.model_file import ModelMetadata, load_model, save_model, to_arrays
from src.params import Normalize
from src.registry import MODELS, Shape, create_model
from src.runtime.errors import PipelineError
from tests.helpers import DIGITS, MNIST

Tensors = dict[str, np.ndarray]


def metadata(network: str = "net", shape: Shape = MNIST) -> ModelMetadata:
    return ModelMetadata(
        network=network,
        classes=DIGITS,
        input_shape=shape,
        dataset="mnist",
        fit="pad",
        normalize=Normalize(mean=[0.1] * shape[0], std=[0.3] * shape[0]),
        test_time_augmentation=True,
        fingerprint={"torch": "2", "threads": 1},
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of an untrained `net`."""
    save_model(tmp_path / "model.safetensors", create_model("net", 10, MNIST), metadata())
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *((name, MNIST) for name in MODELS),
        ("mobilenet_v3_small", MNIST),
        ("mobilenet_v3_small", (3, 32, 32)),
        ("squeezenet1_1", (3, 32, 32)),
    ],
)
def test_saved_model_is_loaded_unchanged(tmp_path: Path, name: str, shape: Shape) -> None:
    net = create_model(name, 10, shape).to(memory_format=torch.channels_last)
    save_model(tmp_path / "a", net, metadata(name, shape))
    classifier, about = load_model(tmp_path / "a")
    assert (classifier.normalize, classifier.test_time_augmentation) == (about.normalize, True)
    loaded = classifier.net
    assert about == metadata(name, shape)
    assert type(loaded) is type(net)
    assert loaded.state_dict().keys() == net.state_dict().keys()
    for key, tensor in net.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], tensor)
    images = torch.randn(2, *shape)
    with torch.no_grad():
        assert torch.allclose(loaded.eval()(images), net.eval()(images), atol=1e-5)


def test_same_model_gives_the_same_bytes(path: Path) -> None:
    before = path.read_bytes()
    classifier, about = load_model(path)
    save_model(path, classifier.net, about)
    assert path.read_bytes() == before


def test_older_file_has_no_test_time_augmentation(path: Path) -> None:
    arrays, values = load_tensors(path)
    del values["test_time_augmentation"]
    save_tensors(path, arrays, values)
    assert not load_model(path)[0].test_time_augmentation


def test_arrays_are_contiguous() -> None:
    tensor = torch.arange(24.0).reshape(1, 2, 3, 4).to(memory_format=torch.channels_last)
    array = to_arrays({"a": tensor})["a"]
    assert array.flags["C_CONTIGUOUS"]
    assert array.ravel().tolist() == list(range(24))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b"PK\x03\x04 a zip of torch.save"), "not a file that this pipeline wrote"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not a file that this pipeline wrote ("),
        (
            lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
            "the content has SHA-256",
        ),
        (lambda path: save_file(load_tensors(path)[0], path), "not a file that this pipeline wrote (KeyError"),
    ],
)
def test_missing_damaged_or_foreign_file_is_an_error(path: Path, change: Callable[[Path], Any], message: str) -> None:
    change(path)
    with pytest.raises(PipelineError) as error:
        load_model(path)
    assert str(error.value).startswith(f"error: {path} is not a model of this pipeline: ")
    assert message in str(error.value)
    assert str(error.value).endswith("hint: dvc repro --force --single-item train")


@pytest.mark.parametrize(
    ("tensors", "about", "message"),
    [
        (lambda weights: {"conv1.weight": weights["conv1.weight"]}, {}, r"Missing key\(s\) in state_dict"),
        (lambda weights: weights, {"network": "tiny"}, "Unexpected key"),
        (lambda weights: {**weights, "fc2.bias": np.zeros(9, np.float32)}, {}, "size mismatch for fc2.bias"),
        (
            lambda weights: {**weights, "fc2.bias": np.full(10, np.nan, np.float32)},
            {},
            "fc2.bias has NaN or infinite values",
        ),
        (lambda weights: {**weights, "fc2.bias": np.zeros(10)}, {}, "fc2.bias has dtype torch.float64"),
        (lambda weights: weights, {"classes": 5, "normalize": None}, "2 validation errors"),
        (lambda weights: weights, {"classes": ["0", "1"]}, "size mismatch for fc2"),
        (lambda weights: weights, {"network": "large"}, "unknown model `large`"),
        (lambda weights: weights, {"input_shape": [3, 28, 28]}, "`net` does not accept color images of 28 x 28 pixels"),
        (lambda weights: weights, {"input_shape": [1, 32, 32]}, "`net` does not accept gray images of 32 x 32 pixels"),
        (lambda weights: weights, {"input_shape": [1, 28, 32]}, "`net` does not accept gray images of 28 x 32 pixels"),
        (lambda weights: weights, {"input_shape": [28, 28]}, "1 validation error"),
        (lambda weights: weights, {"network": "resnet18"}, r"Missing key\(s\) in state_dict"),
        (lambda weights: weights, {"network": "vit_b_16"}, "`vit_b_16` does not accept gray images of 28 x 28 pixels"),
    ],
)
def test_content_that_does_not_fit_the_network_is_an_error(
    path: Path, tensors: Callable[[Tensors], Tensors], about: dict[str, object], message: str
) -> None:
    weights, values = load_tensors(path)
    save_tensors(path, tensors(weights), {**values, **about})
    with pytest.raises(PipelineError, match=f"is not a model of this pipeline: (.|\n)*{message}"):
        load_model(path)
