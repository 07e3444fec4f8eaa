"""The training state."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from src.training.state import TrainState

NewState = Callable[..., TrainState]


def test_new_state_is_at_step_zero(new_state: NewState) -> None:
    state = new_state(images=75, epochs=2.3)
    assert (state.step, state.seconds, state.progress) == (0, 0.0, 0.0)
    assert (state.steps.per_epoch, state.steps.total, state.epochs) == (3, 7, 3)
    assert (state.sums.tolist(), state.sums.dtype) == ([0, 0, 0], torch.float64)
    assert state.model is state.net


@pytest.mark.parametrize("batch_norm", [True, False])
def test_batch_norm_is_added_if_the_settings_say_so(new_state: NewState, batch_norm: bool) -> None:
    state = new_state("net", batch_norm=batch_norm)
    assert isinstance(state.net.norm1, nn.BatchNorm2d if batch_norm else nn.Identity)


def test_convolutions_are_channels_last(new_state: NewState) -> None:
    assert new_state("net").net.conv2.weight.is_contiguous(memory_format=torch.channels_last)


def test_head_of_the_network_is_trained_by_adamw(new_state: NewState) -> None:
    state = new_state("tiny", optimizer="muon", batch_norm=False)
    adamw = state.optimizers[1]
    assert any(weight is state.net.head.weight for group in adamw.param_groups for weight in group["params"])


def test_set_step_sets_step_progress_and_learning_rate(new_state: NewState) -> None:
    changes = {"optimizer": "sgd", "schedule": "linear", "warmup": 0.0, "learning_rate": 0.8, "batch_norm": False}
    state = new_state("tiny", images=128, epochs=2.0, **changes)
    state.set_step(6)
    assert (state.step, state.progress) == (6, 0.75)
    assert state.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.2)
