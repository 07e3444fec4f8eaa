"""Small training runs."""

from collections.abc import Callable

import pytest
import torch

from src.data.dataset import Dataset
from src.device import Compute
from src.params import Params, Train
from src.registry import create_model
from src.training.state import TrainState, create_train_state
from tests.helpers import random_dataset


@pytest.fixture
def settings(params: Params) -> Callable[..., Train]:
    """The section `train` of the default recipe with batches of 32, one epoch, one row per epoch, and with changes."""
    defaults = {"batch_size": 32, "epochs": 1.0, "validations": 1}
    return lambda **changes: params.train.model_copy(update={**defaults, **changes})


@pytest.fixture
def new_state(settings: Callable[..., Train]) -> Callable[..., TrainState]:
    """Create a training state for images, or for that many gray images of noise, always from the same weights."""

    def create(network: str = "net", images: int | Dataset = 75, **changes: object) -> TrainState:
        torch.manual_seed(0)
        train_set = images if isinstance(images, Dataset) else random_dataset(images)
        net = create_model(network, len(train_set.classes), train_set.image_shape)
        return create_train_state(net, train_set, settings(**changes), Compute(torch.device("cpu"), torch.float32))

    return create
