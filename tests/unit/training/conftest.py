"""Small training runs."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from src.data.dataset import Dataset
from src.device import DeviceSetup
from src.models.registry import create_model
from src.params.augmentation import AugmentationParams
from src.params.train import TrainParams
from src.training.state import TrainState
from tests.helpers import random_dataset

OFF = {name: 0.0 for name in AugmentationParams.model_fields if name != "interpolation"}


@pytest.fixture
def settings(params: SimpleNamespace) -> Callable[..., TrainParams]:
    """The section `train` with batches of 32, one epoch and one evaluation, and with changes."""
    defaults = {"batch_size": 32, "epochs": 1.0, "evaluations": 1}
    return lambda **changes: params.train.model_copy(update={**defaults, **changes})


@pytest.fixture
def new_state(params: SimpleNamespace, settings: Callable[..., TrainParams]) -> Callable[..., TrainState]:
    """Create a training state for images, or for that many gray images of noise, always from the same weights.

    Augmentation is off, except for the values in `augmentation`.
    """

    def create(
        network: str = "net", images: int | Dataset = 75, augmentation: dict[str, float] = OFF, **changes: object
    ) -> TrainState:
        torch.manual_seed(0)
        train_set = images if isinstance(images, Dataset) else random_dataset(images)
        net = create_model(network, len(train_set.classes), train_set.image_shape)
        chosen = params.augmentation.model_copy(update=OFF | augmentation)
        return TrainState(
            net, train_set, settings(**changes), chosen, DeviceSetup(torch.device("cpu"), torch.float32), False
        )

    return create
