"""The training loop."""

import math
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.models.inference import evaluate
from src.params import Augmentation
from src.registry import MODELS, create_model
from src.runtime.errors import PipelineError
from src.training import loop
from src.training.loop import (
    ORDER,
    RANDOM_LAYERS,
    check_losses,
    derive_seed,
    iterate_batches,
    summarize_steps,
    train,
    train_step,
    warn_if_worse_than_chance,
)
from src.training.state import HistoryRow, TrainState
from tests.helpers import MNIST, random_dataset

NewState = Callable[..., TrainState]
NO_AUGMENTATION = Augmentation(
    **{name: 0.0 for name in Augmentation.model_fields if name != "interpolation"}, interpolation="bilinear"
)
PLAIN = {"augmentation": NO_AUGMENTATION}


def blank(count: int) -> tuple[Tensor, Tensor]:
    """Return black images [count, 28, 28] with the labels 0 to `count` - 1."""
    return torch.zeros(count, 28, 28, dtype=torch.uint8), torch.arange(count)


def test_every_image_is_used_once_per_epoch(new_state: NewState) -> None:
    state = new_state(images=75)
    batches = [labels for _, labels in iterate_batches(state, *blank(75), epoch=0)]
    assert [len(labels) for labels in batches] == [32, 32, 11]
    assert sorted(torch.cat(batches).tolist()) == list(range(75))


def test_images_keep_their_labels_in_batches(new_state: NewState) -> None:
    images = torch.arange(75, dtype=torch.uint8)[:, None, None].expand(75, 28, 28)
    state = new_state(images=75, **PLAIN)
    (mean,), (std,) = state.normalize.mean, state.normalize.std
    for pixels, labels in iterate_batches(state, images, torch.arange(75), epoch=0):
        assert (pixels.dtype, pixels.shape[1:]) == (torch.float32, (1, 28, 28))
        assert torch.allclose(pixels[:, 0, 0, 0] * std + mean, labels / 255, atol=1e-6)


def test_order_depends_only_on_seed_and_epoch(new_state: NewState) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        state = new_state("dash", images=64, seed=seed, epochs=2.0, **PLAIN)
        state.set_step(2 * epoch)
        return torch.cat([labels for _, labels in iterate_batches(state, *blank(64), epoch)]).tolist()

    orders = [order(0, 0), order(0, 1), order(1, 0)]
    assert order(0, 0) == orders[0]
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_resumed_epoch_continues_with_the_next_batch(new_state: NewState) -> None:
    def batches(step: int) -> list[tuple[Tensor, Tensor]]:
        state = new_state("dash", images=75)
        state.set_step(step)
        return list(iterate_batches(state, torch.tensor(random_dataset(75).images), torch.arange(75), epoch=0))

    whole, rest = batches(0), batches(1)
    assert len(rest) == 2
    for batch, same in zip(whole[1:], rest, strict=True):
        assert all(torch.equal(*pair) for pair in zip(batch, same, strict=True))


def test_each_process_takes_every_nth_image_of_a_batch(new_state: NewState, monkeypatch: pytest.MonkeyPatch) -> None:
    state = new_state("dash", images=75, **PLAIN)
    images = torch.tensor(random_dataset(75).images)
    whole = list(iterate_batches(state, images, torch.arange(75), epoch=0))
    monkeypatch.setattr(loop, "world_size", lambda: 2)
    for number in (0, 1):
        monkeypatch.setattr(loop, "rank", lambda number=number: number)
        for part, batch in zip(iterate_batches(state, images, torch.arange(75), epoch=0), whole, strict=True):
            assert all(torch.equal(mine, every[number::2]) for mine, every in zip(part, batch, strict=True))


@pytest.mark.parametrize("name", [name for name in Augmentation.model_fields if name != "interpolation"])
def test_each_augmentation_alone_changes_the_batches(new_state: NewState, name: str) -> None:
    data = random_dataset(75, channels=3)

    def first_batch(augmentation: Augmentation) -> Tensor:
        state = new_state("squeezenet1_1", data, **{**PLAIN, "augmentation": augmentation})
        images, *_ = next(iterate_batches(state, torch.tensor(data.images), torch.arange(75), epoch=0))
        assert images.shape == (32, 3, 28, 28)
        return images

    changed = NO_AUGMENTATION.model_copy(update={name: 0.5})
    assert not torch.allclose(first_batch(changed), first_batch(NO_AUGMENTATION), atol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_have_the_channels_of_the_images(new_state: NewState, channels: int) -> None:
    data = random_dataset(75, side=42, channels=channels)
    state = new_state("squeezenet1_1", data)
    batches = [images for images, _ in iterate_batches(state, torch.tensor(data.images), torch.arange(75), epoch=0)]
    assert [images.shape for images in batches] == [(count, channels, 42, 42) for count in (32, 32, 11)]
    assert batches[0].is_contiguous(memory_format=torch.channels_last)
    assert batches[0].dtype == torch.float32


EVERYTHING = Augmentation(
    center_crop=0.3, flip=0.5, rotation=10.0, scale=0.1, shear=5.0, shift=2.0, interpolation="bilinear",
    brightness=0.3, contrast=0.3, saturation=0.3, erasing=0.3,
)  # fmt: skip


@pytest.mark.parametrize(("channels", "interpolation"), [(3, "nearest"), (1, "bilinear")])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_network_of_torchvision_trains_with_every_technique(
    new_state: NewState, channels: int, optimizer: str, interpolation: str
) -> None:
    data, validation_set = (random_dataset(40, seed, side=32, channels=channels) for seed in (0, 1))
    changes = {
        "optimizer": optimizer, "learning_rate": 0.01, "batch_size": 8, "label_smoothing": 0.1, "epochs": 2.0,
        "augmentation": EVERYTHING.model_copy(update={"interpolation": interpolation}),
    }  # fmt: skip
    states = [new_state("mobilenet_v3_small", data, **changes) for _ in range(2)]
    before = {name: weight.clone() for name, weight in states[0].net.named_parameters()}
    first, second = (train(state, data, validation_set) for state in states)
    assert first == second
    assert all(math.isfinite(value) for value in first[0].values())
    for (name, weight), other in zip(states[0].net.named_parameters(), states[1].net.parameters(), strict=True):
        assert torch.equal(weight, other), name
        assert not torch.equal(weight, before[name]), name


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
@pytest.mark.parametrize(
    ("network", "head"), [("mobilenet_v3_small", "classifier.3"), ("squeezenet1_1", "classifier.1")]
)
def test_frozen_epochs_change_the_head_only(new_state: NewState, network: str, head: str, optimizer: str) -> None:
    data = random_dataset(24, side=32, channels=3)
    changes = {"batch_size": 8, "epochs": 3.0, "learning_rate": 0.001}
    state = new_state(network, data, freeze_epochs=2, optimizer=optimizer, weight_decay=0.1, **changes)
    changed: list[set[str]] = []
    weights = {name: weight.clone() for name, weight in state.net.named_parameters()}

    def on_row(_: list[HistoryRow]) -> None:
        now = dict(state.net.named_parameters())
        changed.append({name for name, weight in weights.items() if not torch.equal(weight, now[name])})
        weights.update({name: weight.clone() for name, weight in now.items()})

    train(state, data, on_row=on_row)
    assert changed == [{f"{head}.weight", f"{head}.bias"}] * 2 + [set(weights)]


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "efficientnet_b0"])
def test_random_layers_draw_from_a_generator_keyed_by_seed_and_step(new_state: NewState, name: str) -> None:
    """Dropout of both, and stochastic depth of EfficientNet."""
    data = random_dataset(16, side=32, channels=3)
    images, labels = torch.randn(16, 3, 32, 32), torch.from_numpy(data.labels).long()

    def loss_of_a_step(step: int, seed: int = 0) -> float:
        state = new_state(name, data, epochs=9.0, seed=seed)
        state.step = step
        train_step(state, images, labels)
        return state.sums[0].item()

    losses = [loss_of_a_step(0), loss_of_a_step(1), loss_of_a_step(0, seed=1)]
    assert len(set(losses)) == 3
    torch.rand(5)  # the state of the global generator does not matter
    assert loss_of_a_step(1) == losses[1]


def test_step_follows_the_gradient_of_cross_entropy_with_label_smoothing(new_state: NewState) -> None:
    changes = {**PLAIN, "label_smoothing": 0.2, "optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0}
    state = new_state("net", schedule="constant", warmup=0.0, learning_rate=0.1, **changes)
    expected = create_model("net", 10, MNIST)
    expected.load_state_dict(state.net.state_dict())
    images, labels = torch.randn(16, 1, 28, 28), torch.arange(16) % 10
    F.cross_entropy(expected(images), labels, label_smoothing=0.2).backward()
    train_step(state, images, labels)
    assert state.step == 1
    for weight, before in zip(state.net.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(weight, before - 0.1 * before.grad, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_reported_loss_is_without_label_smoothing(new_state: NewState, name: str) -> None:
    """Of networks that return log-probabilities, and of those that return logits."""
    state = new_state(name, **{**PLAIN, "label_smoothing": 0.2})
    images, labels = torch.randn(16, 1, 28, 28), torch.arange(16) % 10
    with torch.no_grad():
        torch.manual_seed(derive_seed(state.settings.seed, RANDOM_LAYERS, 0, 0))  # for random layers
        output = state.net.train()(images)
    train_step(state, images, labels)
    loss, correct, seen = state.sums.tolist()
    assert loss / 16 == pytest.approx(F.nll_loss(output.log_softmax(dim=1), labels).item(), rel=1e-5)
    assert (correct, seen) == ((output.argmax(dim=1) == labels).sum(), 16)


def test_label_smoothing_changes_the_training(new_state: NewState) -> None:
    plain, smooth = (
        train(new_state("dash", images=38, batch_size=16, **PLAIN, label_smoothing=value), random_dataset(38))
        for value in (0.0, 0.2)
    )
    assert plain != smooth


def test_metrics_are_means_over_images_not_batches(new_state: NewState) -> None:
    """At a learning rate of almost 0, training and evaluation agree on 75 images in batches of 32, 32 and 11."""
    state, data = new_state("net", images=75, learning_rate=1e-12, **PLAIN), random_dataset(75)
    (metrics,) = train(state, data)
    loss, accuracy = evaluate(state.classifier, data, state.compute.device)
    assert metrics["train_loss"] == pytest.approx(loss, rel=1e-4)
    assert metrics["train_accuracy"] == accuracy


def test_summary_of_steps_resets_the_sums_and_reports_the_last_learning_rate(new_state: NewState) -> None:
    state = new_state("dash", images=128, schedule="linear", warmup=0.0, learning_rate=0.2, **PLAIN)
    state.step, state.sums = 4, torch.tensor([48.0, 8.0, 32.0])
    assert summarize_steps(state) == {
        "epoch": 1,
        "learning_rate": pytest.approx(0.2 / 4),
        "train_loss": 1.5,
        "train_accuracy": 0.25,
    }
    assert state.sums.tolist() == [0, 0, 0]


def test_rows_of_the_history_may_end_within_an_epoch(new_state: NewState) -> None:
    history = train(new_state("dash", images=75, epochs=2.0, validations=4, **PLAIN), random_dataset(75))
    assert [metrics["epoch"] for metrics in history] == pytest.approx([2 / 3, 1, 5 / 3, 2])


def test_clock_is_read_after_the_device_has_finished_a_row(
    new_state: NewState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU computes the steps later than Python starts them."""
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(torch.cpu, "synchronize", lambda: now.__setitem__(0, now[0] + 10))
    state = new_state("dash", images=75, epochs=2.0, **PLAIN)
    train(state, random_dataset(75))
    assert state.seconds == 20


def test_validation_evaluates_the_network_of_this_step(new_state: NewState) -> None:
    state, validation_set = new_state("net", images=38, batch_size=16, epochs=2.0), random_dataset(20, seed=1)
    seen: list[HistoryRow] = []

    def on_row(history: list[HistoryRow]) -> None:
        loss, accuracy = evaluate(state.classifier, validation_set, state.compute.device)
        seen.append({"validation_loss": loss, "validation_accuracy": accuracy})
        assert len(history) == len(seen)

    history = train(state, random_dataset(38), validation_set, on_row=on_row)
    assert [{key: metrics[key] for key in seen[0]} for metrics in history] == seen
    assert list(history[0]) == [
        "epoch",
        "learning_rate",
        "train_loss",
        "train_accuracy",
        "validation_loss",
        "validation_accuracy",
    ]


def test_gpu_without_enough_memory_is_an_error(new_state: NewState, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of")

    monkeypatch.setattr(loop, "train_step", full)
    with pytest.raises(PipelineError) as error:
        train(new_state("dash", images=75), random_dataset(75))
    assert str(error.value) == (
        "error: train.batch_size 32 needs more memory than the GPU has: CUDA out of memory\n"
        "hint: dvc exp run -S train.batch_size=16"
    )


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_is_an_error(new_state: NewState, value: float) -> None:
    settings = new_state("dash", learning_rate=0.04, **PLAIN).settings
    check_losses({"epoch": 2, "train_loss": 1.0, "validation_accuracy": math.nan}, settings)
    with pytest.raises(PipelineError) as error:
        check_losses({"epoch": 2, "train_loss": 1.5, "validation_loss": value}, settings)
    assert str(error.value) == (
        "error: training diverged at epoch 2 with train.learning_rate 0.04: "
        f"train_loss 1.5, validation_loss {value}\n"
        "hint: dvc exp run -S train.learning_rate=0.004"
    )


def test_derived_seeds_are_all_different() -> None:
    uses = [(ORDER, epoch) for epoch in range(20)]
    uses += [(RANDOM_LAYERS, step, rank) for step in range(20) for rank in range(4)]
    assert len({derive_seed(seed, *use) for seed in range(20) for use in uses}) == 20 * len(uses)


def test_validation_loss_above_that_of_a_random_guess_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    warn_if_worse_than_chance({"train_loss": 1.2, "validation_loss": 2.2}, num_classes=10)
    assert not capsys.readouterr().err
    warn_if_worse_than_chance({"train_loss": 1.2, "validation_loss": 122.0}, num_classes=10)
    assert capsys.readouterr().err == ("warning: the validation loss is above 2.3026, the loss of a random guess\n")
