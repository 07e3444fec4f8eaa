"""Checks of the training set before any work."""

import numpy as np
import pytest

from src.data.dataset import Dataset
from src.params import Params
from src.registry import MODELS, ModelSpec
from src.runtime.errors import PipelineError
from src.training.checks import check_train_set
from tests.helpers import random_dataset


def blank(count: int, side: int) -> Dataset:
    return Dataset(np.zeros((count, side, side), np.uint8), np.zeros(count, np.uint8), ("a",))


def with_train(params: Params, **changes: object) -> Params:
    return params.model_copy(update={"train": params.train.model_copy(update=changes)})


def error_of(train_set: Dataset, params: Params) -> str:
    with pytest.raises(PipelineError) as error:
        check_train_set(train_set, params)
    return str(error.value)


def test_error_names_networks_that_accept_the_images(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "large", ModelSpec("nowhere:Large", head="head", image_sizes=(32,)))
    params = params.model_copy(update={"model": params.model.model_copy(update={"name": "net"})})
    assert error_of(blank(64, 32), params) == (
        "error: model `net` does not accept images of shape (1, 32, 32) (channels, height, width); "
        "models that do: large\n"
        "hint: dvc exp run -S model.name=large"
    )


def test_error_says_if_no_network_accepts_the_images(params: Params) -> None:
    assert "images of shape (1, 31, 31) (channels, height, width); models that do: none" in error_of(
        blank(64, 31), params
    )


@pytest.mark.parametrize(
    ("images", "batch_size", "processes", "batch_norm"),
    [
        (280, 64, 1, True),
        (66, 64, 1, True),
        (65, 64, 1, False),
        (68, 64, 2, True),
        (66, 64, 2, False),
        (2, 64, 1, True),
    ],
)
def test_batches_with_enough_images_pass(
    params: Params, images: int, batch_size: int, processes: int, batch_norm: bool
) -> None:
    changes = {"batch_size": batch_size, "processes": processes, "batch_norm": batch_norm}
    check_train_set(random_dataset(images), with_train(params, **changes))


@pytest.mark.parametrize(
    ("images", "batch_size", "processes", "batch_norm", "message"),
    [
        (280, 31, 1, True, "train.batch_size 31 leaves 1 of 280 images in the last batch, expected at least 2"),
        (67, 64, 2, True, "train.batch_size 64 leaves 3 of 67 images in the last batch, expected at least 4"),
        (65, 64, 2, False, "train.batch_size 64 leaves 1 of 65 images in the last batch, expected at least 2"),
        (1, 64, 1, True, "train.batch_size 64 leaves 1 of 1 images in the last batch, expected at least 2"),
    ],
)
def test_too_few_images_in_the_last_batch_are_an_error(
    params: Params, images: int, batch_size: int, processes: int, batch_norm: bool, message: str
) -> None:
    changes = {"batch_size": batch_size, "processes": processes, "batch_norm": batch_norm}
    found = error_of(random_dataset(images), with_train(params, **changes))
    assert message in found
    assert "\nhint: dvc exp run -S train.batch_norm=false -S train.processes=1" in found
