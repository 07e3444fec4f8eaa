"""Checks of the training set before any work."""

import numpy as np
import pytest
import torch

from src.data.dataset import Dataset
from src.params import Params
from src.registry import MODELS, create_model
from src.runtime.errors import PipelineError
from src.training.checks import check_train_set
from tests.helpers import MNIST, random_dataset


def blank(count: int, side: int) -> Dataset:
    return Dataset(np.zeros((count, side, side), np.uint8), np.zeros(count, np.uint8), ("a",))


def with_network(params: Params, name: str, **changes: object) -> Params:
    model, train = params.model.model_copy(update={"name": name}), params.train.model_copy(update=changes)
    return params.model_copy(update={"model": model, "train": train})


def error_of(train_set: Dataset, params: Params) -> str:
    with pytest.raises(PipelineError) as error:
        check_train_set(train_set, params)
    return str(error.value)


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (blank(64, 32), "1 channels and 32 x 32 pixels"),
        (random_dataset(64, side=28, channels=3), "3 channels and 28 x 28 pixels"),
        (Dataset(np.zeros((64, 28, 32), np.uint8), np.zeros(64, np.uint8), ("a",)), "1 channels and 28 x 32 pixels"),
    ],
)
def test_images_that_params_yaml_does_not_describe_are_an_error(params: Params, images: Dataset, found: str) -> None:
    """The stage was run without `dvc repro`, which would prepare them again."""
    assert error_of(images, params) == (
        f"error: the prepared images have {found}, but prepare.channels is 1 and prepare.image_size 28\n"
        "hint: dvc repro   # prepares them again"
    )


def test_images_of_params_yaml_pass(params: Params) -> None:
    check_train_set(random_dataset(64), params)
    prepare = params.prepare.model_copy(update={"channels": 3, "image_size": 40})
    check_train_set(random_dataset(64, side=40, channels=3), params.model_copy(update={"prepare": prepare}))


@pytest.mark.parametrize(
    ("network", "images", "batch_size", "processes"),
    [
        ("resnet18", 280, 64, 1),
        ("resnet18", 66, 64, 1),
        ("net", 65, 64, 1),
        ("resnet18", 68, 64, 2),
        ("net", 66, 64, 2),
        ("resnet18", 2, 64, 1),
        ("net", 5, 1, 1),
    ],
)
def test_batches_with_enough_images_pass(
    params: Params, network: str, images: int, batch_size: int, processes: int
) -> None:
    check_train_set(random_dataset(images), with_network(params, network, batch_size=batch_size, processes=processes))


@pytest.mark.parametrize(
    ("network", "images", "batch_size", "processes", "message"),
    [
        ("resnet18", 280, 31, 1, "train.batch_size 31 leaves 1 of 280 images in the last batch, expected at least 2"),
        ("resnet18", 67, 64, 2, "train.batch_size 64 leaves 3 of 67 images in the last batch, expected at least 4"),
        ("net", 65, 64, 2, "train.batch_size 64 leaves 1 of 65 images in the last batch, expected at least 2"),
        ("resnet18", 1, 64, 1, "train.batch_size 64 leaves 1 of 1 images in the last batch, expected at least 2"),
    ],
)
def test_too_few_images_in_the_last_batch_are_an_error(
    params: Params, network: str, images: int, batch_size: int, processes: int, message: str
) -> None:
    found = error_of(random_dataset(images), with_network(params, network, batch_size=batch_size, processes=processes))
    assert message in found
    assert f"\nhint: dvc exp run -S train.batch_size={batch_size + int(message[-1])}   # or fewer" in found


@pytest.mark.parametrize("name", MODELS)
def test_networks_of_this_project_train_on_one_image(params: Params, name: str) -> None:
    check_train_set(random_dataset(65), with_network(params, name, batch_size=64, processes=1))
    assert create_model(name, 10, MNIST).train()(torch.rand(1, *MNIST)).isfinite().all()


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16"])
def test_networks_of_torchvision_need_two_images_in_the_last_batch(params: Params, name: str) -> None:
    """Batch norm of one image whose last feature map is 1 x 1 is an error of torch in the middle of the epoch."""
    params = with_network(params, name, batch_size=64, processes=1)
    assert "leaves 1 of 65 images in the last batch, expected at least 2" in error_of(random_dataset(65), params)
    check_train_set(random_dataset(66), params)
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        create_model("resnet18", 2, MNIST).train()(torch.zeros(1, *MNIST))
