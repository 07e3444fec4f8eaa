"""The training state."""

from collections.abc import Callable

import pytest
import torch

from src.data.dataset import Dataset
from src.params import Normalize
from src.training.state import TrainState
from tests.helpers import random_dataset

NewState = Callable[..., TrainState]


def test_new_state_is_at_step_zero(new_state: NewState) -> None:
    state = new_state(images=75, epochs=2.3)
    assert (state.step, state.seconds) == (0, 0.0)
    assert (state.steps.per_epoch, state.steps.total, state.epochs) == (3, 7, 3)
    assert (state.sums.tolist(), state.sums.dtype) == ([0, 0, 0], torch.float64)
    assert state.model is state.net


def test_convolutions_are_channels_last(new_state: NewState) -> None:
    assert new_state("net").net.conv2.weight.is_contiguous(memory_format=torch.channels_last)


def test_head_of_the_network_is_trained_by_adamw(new_state: NewState) -> None:
    state = new_state("tiny", optimizer="muon")
    adamw = state.optimizers[1]
    assert any(weight is state.net.head.weight for group in adamw.param_groups for weight in group["params"])


@pytest.mark.parametrize("channels", [1, 3])
def test_normalization_is_measured_on_the_training_images(new_state: NewState, channels: int) -> None:
    """`train.normalize: auto`."""
    data = random_dataset(20, side=32, channels=channels)
    data = Dataset(data.images // 2, data.labels, data.classes)
    state = new_state("squeezenet1_1", data, normalize=None)
    pixels = data.images.reshape(-1, channels) / 255
    assert state.normalize.mean == [round(value, 4) for value in pixels.mean(axis=0).tolist()]
    assert state.normalize.std == [round(value, 4) for value in pixels.std(axis=0).tolist()]


def test_given_normalization_is_used(new_state: NewState) -> None:
    given = Normalize(mean=[0.25], std=[0.125])
    assert new_state("tiny", normalize=given).normalize == given


def trained(state: TrainState) -> set[str]:
    return {name for name, parameter in state.net.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize(
    ("network", "channels", "head"),
    [("tiny", 1, "head"), ("mobilenet_v3_small", 3, "classifier.3"), ("squeezenet1_1", 1, "classifier.1")],
)
def test_frozen_epochs_train_the_head_alone(
    new_state: NewState, network: str, channels: int, head: str, optimizer: str
) -> None:
    data = random_dataset(20, channels=channels)
    state = new_state(network, data, freeze_epochs=2, optimizer=optimizer)
    everything = trained(state)
    for epoch in range(2):
        state.set_trainable(epoch)
        assert trained(state) == {f"{head}.weight", f"{head}.bias"}
    for epoch in (2, 3):
        state.set_trainable(epoch)
        assert trained(state) == everything


def test_network_is_wrapped_again_only_if_its_trainable_parameters_change(
    new_state: NewState, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, wrapped = new_state("tiny", freeze_epochs=2), []
    monkeypatch.setattr("src.training.state.wrap_ddp", lambda net: wrapped.append(net) or net)
    counts = []
    for epoch in range(4):
        state.set_trainable(epoch)
        counts.append(len(wrapped))
    assert counts == [1, 1, 2, 2]


def test_no_frozen_epochs_change_nothing(new_state: NewState) -> None:
    state = new_state("net", freeze_epochs=0)
    state.net.conv1.weight.requires_grad_(False)
    state.set_trainable(0)
    assert "conv1.weight" not in trained(state)


def test_set_step_sets_the_step_and_the_learning_rate(new_state: NewState) -> None:
    changes = {"optimizer": "sgd", "schedule": "linear", "warmup": 0.0, "learning_rate": 0.8}
    state = new_state("tiny", images=128, epochs=2.0, **changes)
    state.set_step(6)
    assert state.step == 6
    assert state.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.2)
