"""Learning-rate schedules."""

from collections.abc import Callable

import pytest
import torch

from src.params import Train
from src.training.schedules import SCHEDULES, StepCount, build_schedulers, learning_rate_factor
from src.training.state import TrainState


def factors(settings: Train, steps: StepCount) -> list[float]:
    return [learning_rate_factor(step, steps, settings) for step in range(steps.total)]


@pytest.mark.parametrize(
    ("images", "epochs", "expected"),
    [
        (75, 1.0, StepCount(per_epoch=3, total=3)),
        (75, 2.3, StepCount(per_epoch=3, total=7, rows=3)),
        (96, 0.1, StepCount(per_epoch=3, total=1)),
        (1, 2.0, StepCount(per_epoch=1, total=2, rows=2)),
        (32 * 430, 1.1, StepCount(per_epoch=430, total=473, rows=2)),  # 1.1 * 430 is 473.00000000000006
    ],
)
def test_steps_include_partial_batches_and_epochs(
    settings: Callable[..., Train], images: int, epochs: float, expected: StepCount
) -> None:
    assert StepCount.of(images, settings(epochs=epochs)) == expected


@pytest.mark.parametrize(
    ("epochs", "validations", "expected"),
    [
        (2.0, 1, [4, 8]),  # a row per epoch
        (2.0, 3, [3, 6, 8]),
        (2.0, 8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (0.5, 10, [1, 2]),  # no more rows than steps
        (1.5, 1, [3, 6]),  # evenly spaced, not at the end of the epoch
    ],
)
def test_rows_of_the_history_are_evenly_spaced(
    settings: Callable[..., Train], epochs: float, validations: int, expected: list[int]
) -> None:
    steps = StepCount.of(128, settings(epochs=epochs, validations=validations))
    assert [step for step in range(1, steps.total + 1) if steps.ends_row(step)] == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule": "constant", "warmup": 0.0}, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ({"schedule": "constant", "warmup": 0.4}, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1]),
        ({"schedule": "linear", "warmup": 0.0}, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ({"schedule": "linear", "warmup": 0.2}, [0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        (
            {"schedule": "step", "warmup": 0.0, "step_epochs": 2, "step_factor": 0.1},
            [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01],
        ),
    ],
)
def test_learning_rate_factors_over_ten_steps(
    settings: Callable[..., Train], changes: dict[str, object], expected: list[float]
) -> None:
    steps = StepCount(per_epoch=2, total=10)
    assert factors(settings(epochs=5.0, **changes), steps) == pytest.approx(expected)


def test_linear_decay_falls_over_partial_epochs(settings: Callable[..., Train]) -> None:
    """One and a half epochs of four batches are six steps."""
    half = settings(epochs=1.5, schedule="linear", warmup=0.0)
    steps = StepCount.of(128, half)
    assert factors(half, steps) == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6])


def test_linear_warmup_and_decay_of_100_steps(settings: Callable[..., Train]) -> None:
    found = factors(settings(schedule="linear", warmup=0.1), StepCount(per_epoch=50, total=100))
    assert found[:10] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
    assert [found[10], found[55], found[99]] == pytest.approx([1.0, 0.5, 1 / 90])


def test_step_decay_follows_torchs_step_lr(settings: Callable[..., Train]) -> None:
    step = settings(schedule="step", warmup=0.0, step_epochs=15, step_factor=0.1)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 15, 0.1)
    for epoch in range(40):
        assert learning_rate_factor(epoch * 7, StepCount(7, 280), step) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schema_offers_every_schedule(settings: Callable[..., Train], schedule: str) -> None:
    values = settings(warmup=0.0).model_dump() | {"schedule": schedule}
    assert Train.model_validate(values).schedule == schedule


def rates(state: TrainState) -> list[float]:
    return [group["lr"] for optimizer in state.optimizers for group in optimizer.param_groups]


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", ["sgd", "muon"])
def test_schedulers_follow_the_factor_step_by_step(
    new_state: Callable[..., TrainState], schedule: str, optimizer: str
) -> None:
    """Muon is followed by AdamW, at a tenth of the learning rate."""
    changes = {"warmup": 0.0 if schedule == "step" else 0.3, "step_epochs": 1, "step_factor": 0.5}
    state = new_state("tiny", schedule=schedule, optimizer=optimizer, learning_rate=0.2, epochs=2.5, **changes)
    bases = [0.2, 0.2] if optimizer == "sgd" else [0.2, 0.02, 0.02]

    def expected(step: int) -> list[float]:
        return [base * learning_rate_factor(step, state.steps, state.settings) for base in bases]

    def advance() -> None:
        for part, scheduler in zip(state.optimizers, state.schedulers, strict=True):
            for weight in (weight for group in part.param_groups for weight in group["params"]):
                weight.grad = torch.zeros_like(weight)
            part.step()
            scheduler.step()

    assert state.steps.total == 8
    for step in range(8):
        assert rates(state) == pytest.approx(expected(step))
        advance()
    for start in (5, 0, 7):
        state.set_step(start)
        for step in range(start, 8):
            assert rates(state) == pytest.approx(expected(step)), (start, step)
            advance()
    state.set_step(8)
    assert rates(state) == pytest.approx(expected(7))


def test_resumed_schedulers_start_at_the_saved_step(settings: Callable[..., Train]) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
    build_schedulers([optimizer], settings(schedule="linear", warmup=0.0), StepCount(4, 8), step=6)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2.0 * 2 / 8)
