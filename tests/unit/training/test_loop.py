"""The training loop."""

import math
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from src.data.dataset import Dataset
from src.models.inference import evaluate
from src.models.registry import create_model
from src.preprocessing import Normalization
from src.runtime.errors import PipelineError
from src.training import loop
from src.training.state import TrainState
from tests.helpers import MNIST, random_dataset

OUTPUT = torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 1.0]])
NewState = Callable[..., TrainState]
PLAIN_SGD = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "schedule": "constant", "warmup": 0.0}


def remaining_batches(state: TrainState, data: Dataset) -> list[tuple[Tensor, Tensor, Tensor]]:
    batches = []
    for batch in loop.iterate_batches(state, data):
        batches.append(batch)
        state.step += 1
    return batches


def test_every_image_is_used_once_per_epoch_with_its_label(new_state: NewState) -> None:
    """Image i has the gray level and the label i."""
    images = np.arange(75, dtype=np.uint8).repeat(28 * 28).reshape(75, 28, 28)
    data = Dataset(images, np.arange(75, dtype=np.uint8), tuple(map(str, range(75))))
    state = new_state(images=data)
    state.classifier.normalization = Normalization(mean=[0.1], std=[0.5])
    batches = remaining_batches(state, data)
    assert [len(labels) for _, _, labels in batches] == [32, 32, 11]
    assert sorted(torch.cat([labels for _, _, labels in batches]).tolist()) == list(range(75))
    for indices, pixels, labels in batches:
        assert indices.tolist() == labels.tolist()
        assert torch.allclose(pixels[:, 0, 0, 0] * 0.5 + 0.1, labels / 255, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_first_batch_has_the_pixels_of_the_first_step(new_state: NewState, channels: int) -> None:
    data = random_dataset(9, channels=channels)
    state = new_state("dash", data, batch_size=9)
    first = loop.first_batch(state, data, 20)
    (indices, _, labels), *_ = remaining_batches(state, data)
    assert (first["images"] == data.images[indices.numpy()]).all()
    assert first["labels"].tolist() == labels.tolist()
    state.step = 0
    assert len(loop.first_batch(state, data, 5)["images"]) == 5


def test_order_depends_only_on_seed_and_epoch(new_state: NewState) -> None:
    def orders(seed: int, start: int = 0) -> list[list[int]]:
        state, data = new_state("dash", 64, seed=seed, epochs=2.0), random_dataset(64)
        state.step = start
        return [labels.tolist() for _, _, labels in remaining_batches(state, data)]

    first = orders(0)
    assert first[:2] != first[2:] != orders(1)[2:]
    assert orders(0, start=2) == first[2:]


def test_erased_pixels_are_0_after_normalization(new_state: NewState) -> None:
    data = Dataset(np.full((32, 28, 28), 255, np.uint8), np.zeros(32, np.uint8), ("white",))
    state = new_state("net", data, {"erasing_prob": 1.0})
    state.classifier.normalization = Normalization(mean=[0.25], std=[0.5])
    _, images, _ = next(loop.iterate_batches(state, data))
    assert images.flatten(1).min(dim=1).values.tolist() == [0] * 32
    assert images.unique().round(decimals=4).unique().tolist() == [0, 1.5]


def test_training_with_every_technique_changes_all_weights_and_repeats_exactly(
    new_state: NewState, params: SimpleNamespace
) -> None:
    data, validation_set = (random_dataset(40, seed, side=32, channels=3) for seed in (0, 1))
    techniques = {name: 0.3 for name, value in params.augmentation if not isinstance(value, str)}
    states = [
        new_state(
            "mobilenet_v3_small", data, techniques, batch_size=8,
            learning_rate=0.01, label_smoothing=0.1,
        )
        for _ in range(2)
    ]  # fmt: skip
    before = {name: weight.clone() for name, weight in states[0].classifier.net.named_parameters()}
    first, second = (loop.train(state, data, validation_set) for state in states)
    assert first == second
    trained, again = (dict(state.classifier.net.named_parameters()) for state in states)
    for name, weight in trained.items():
        assert torch.equal(weight, again[name]), name
        assert not torch.equal(weight, before[name]), name


def test_dropout_and_stochastic_depth_depend_only_on_seed_and_step(new_state: NewState) -> None:
    data = random_dataset(16, side=32, channels=3)
    images, labels = torch.randn(16, 3, 32, 32), torch.from_numpy(data.labels).long()

    def loss_of_a_step(step: int, seed: int = 0) -> float:
        state = new_state("efficientnet_b0", data, epochs=9.0, seed=seed)
        state.step = step
        loop.train_step(state, torch.arange(len(images)), images, labels)
        return state.running_metrics[0].item()

    losses = [loss_of_a_step(0), loss_of_a_step(1), loss_of_a_step(0, seed=1)]
    assert len(set(losses)) == 3
    torch.rand(5)  # the state of the global generator does not matter
    assert loss_of_a_step(1) == losses[1]


@pytest.mark.parametrize("network", ["net", "dash"])  # log-probabilities, logits
def test_step_minimizes_the_smoothed_loss_and_reports_the_plain_loss(new_state: NewState, network: str) -> None:
    state, expected = (
        new_state(network, **PLAIN_SGD, learning_rate=0.1, label_smoothing=0.2),
        create_model(network, 10, MNIST),
    )
    expected.load_state_dict(state.classifier.net.state_dict())
    images, labels = torch.randn(16, *MNIST), torch.arange(16) % 10
    output = expected(images)
    F.cross_entropy(output, labels, label_smoothing=0.2).backward()
    loop.train_step(state, torch.arange(len(images)), images, labels)
    assert state.step == 1
    for weight, before in zip(state.classifier.net.parameters(), expected.parameters(), strict=True):
        assert torch.allclose(weight, before - 0.1 * before.grad, atol=1e-5)
    loss, correct, seen = state.running_metrics.tolist()
    assert loss / 16 == pytest.approx(F.cross_entropy(output, labels).item(), rel=1e-5)
    assert (correct, seen) == ((output.argmax(dim=1) == labels).sum(), 16)


def test_metrics_are_means_over_images_not_batches(new_state: NewState) -> None:
    """At a learning rate of almost 0, training and evaluation agree on 75 images in batches of 32, 32 and 11."""
    state, data = new_state("net", learning_rate=1e-12), random_dataset(75)
    (metrics,) = loop.train(state, data)
    expected = evaluate(state.classifier, data, state.setup.device)
    assert metrics["train_loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert metrics["train_accuracy"] == expected["accuracy"]


def test_metrics_have_the_last_learning_rate_and_are_printed_and_reset(
    new_state: NewState, capsys: pytest.CaptureFixture[str]
) -> None:
    state = new_state("dash", images=128, schedule="linear", warmup=0.0, learning_rate=0.2)
    state.step, state.running_metrics = 3, torch.tensor([48.0, 8.0, 32.0])
    expected = {"epoch": 0.75, "learning_rate": pytest.approx(0.1), "train_loss": 1.5, "train_accuracy": 0.25}
    assert loop.log_metrics(state, None) == expected
    assert capsys.readouterr().out == "epoch 0.75  learning rate 0.1  train loss 1.5  train accuracy 0.25\n"
    assert state.running_metrics.tolist() == [0, 0, 0]


def test_validation_evaluates_the_network_of_this_step(new_state: NewState) -> None:
    state, validation_set = new_state(images=38, batch_size=16, epochs=2.0), random_dataset(20, seed=1)
    seen: list[dict[str, float]] = []

    def on_eval(history: list[loop.Metrics]) -> None:
        seen.append(evaluate(state.classifier, validation_set, state.setup.device))
        assert len(history) == len(seen)

    history = loop.train(state, random_dataset(38), validation_set, on_eval=on_eval)
    names = ("loss", "accuracy", "balanced_accuracy")
    assert [{name: metrics[f"validation_{name}"] for name in names} for metrics in history] == seen
    assert len(seen) == 2


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_loss_that_is_not_finite_is_an_error(new_state: NewState, value: float) -> None:
    state = new_state(images=64, learning_rate=0.04, schedule="constant")
    state.step, state.running_metrics = 1, torch.tensor([value, 8, 32])
    with pytest.raises(PipelineError) as error:
        loop.log_metrics(state, None)
    assert str(error.value) == (
        "error: training diverged with train.learning_rate 0.04: "
        f"epoch 0.5  learning rate 0.04  train loss {value}  train accuracy 0.25\n"
        "hint: dvc exp run -S train.learning_rate=0.004"
    )


@pytest.mark.parametrize(
    ("images", "epochs", "total"),
    [
        (75, 1.0, 3),
        (75, 2.3, 7),
        (96, 0.1, 1),
        (32 * 430, 1.1, 473),  # 1.1 * 430 is 473.00000000000006
    ],
)
def test_partial_batches_and_epochs_are_steps(new_state: NewState, images: int, epochs: float, total: int) -> None:
    data = Dataset(np.zeros((images, 1, 1), np.uint8), np.zeros(images, np.uint8), ("a",))
    assert new_state(images=data, epochs=epochs).total_steps == total


@pytest.mark.parametrize(
    ("epochs", "evaluations", "expected"),
    [
        (2.0, 1, [4, 8]),  # at least once per epoch
        (2.0, 3, [3, 6, 8]),
        (0.5, 10, [1, 2]),  # at most once per step
        (1.5, 1, [3, 6]),
    ],
)
def test_evaluation_steps_are_evenly_spaced(
    new_state: NewState, epochs: float, evaluations: int, expected: list[int]
) -> None:
    state = new_state("dash", images=128, epochs=epochs, evaluations=evaluations)
    assert sorted(loop.evaluation_steps(state)) == expected


def test_derived_seeds_are_all_different() -> None:
    orders = {loop.derive_seed(seed, loop.ORDER, epoch) for seed in range(20) for epoch in range(20)}
    by_rank = [loop.derive_seed(seed, loop.RANDOM_LAYERS, rank) for seed in range(20) for rank in range(4)]
    layers = {seed ^ step for seed in by_rank for step in range(20)}
    assert len(orders | layers) == 20 * 20 + 20 * 4 * 20


def test_loss_of_each_image_is_its_negative_log_likelihood() -> None:
    expected = -OUTPUT.log_softmax(dim=1)[[0, 1], [0, 2]]
    assert torch.allclose(loop.image_losses(OUTPUT, torch.tensor([0, 2]), label_smoothing=0), expected)


def test_label_smoothing_equals_labels_of_several_classes() -> None:
    """A smoothing of 0.3 spreads 0.1 over each of three classes."""
    labels = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    smooth = loop.image_losses(OUTPUT, torch.tensor([0, 2]), label_smoothing=0.3)
    assert torch.allclose(smooth, loop.image_losses(OUTPUT, labels, label_smoothing=0))
    assert torch.allclose(smooth, -(labels * OUTPUT.log_softmax(dim=1)).sum(dim=1))
