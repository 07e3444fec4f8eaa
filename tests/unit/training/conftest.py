"""Small training runs."""

from collections.abc import Callable

import pytest
import torch

from src.device import Compute
from src.params import Params, Train
from src.registry import create_model
from src.training.state import TrainState, create_train_state


@pytest.fixture
def settings(params: Params) -> Callable[..., Train]:
    """The section `train` of the default recipe with batches of 32 and one epoch, and with changes."""
    return lambda **changes: params.train.model_copy(update={"batch_size": 32, "epochs": 1.0, **changes})


@pytest.fixture
def new_state(settings: Callable[..., Train]) -> Callable[..., TrainState]:
    """Create a training state, always from the same weights."""

    def create(network: str = "net", images: int = 75, **changes: object) -> TrainState:
        torch.manual_seed(0)
        compute = Compute(torch.device("cpu"), torch.float32)
        return create_train_state(create_model(network, 10), network, images, settings(**changes), compute)

    return create
