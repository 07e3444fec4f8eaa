"""Learning-rate schedules."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from src.params import Train


@dataclass(frozen=True)
class StepCount:
    """The number of optimizer steps of a run; the last epoch may be partial.

    Attributes:
        per_epoch: steps of a full epoch.
        total: steps of the run.
        rows: rows of the history, evenly spaced.
    """

    per_epoch: int
    total: int
    rows: int = 1

    @classmethod
    def of(cls, images: int, settings: Train) -> "StepCount":
        per_epoch = math.ceil(images / settings.batch_size)
        total = math.ceil(per_epoch * Decimal(str(settings.epochs)))  # 1.1 epochs of 430 steps are 473 steps, not 474
        return cls(per_epoch, total, max(settings.validations, math.ceil(settings.epochs)))

    def ends_row(self, step: int) -> bool:
        """Return whether a row of the history ends after `step` steps."""
        return step * self.rows // self.total > (step - 1) * self.rows // self.total


def constant(step: int, steps: StepCount, settings: Train) -> float:
    """Use a constant learning rate."""
    return 1.0


def step_decay(step: int, steps: StepCount, settings: Train) -> float:
    """Multiply the learning rate by `step_factor` every `step_epochs` epochs, as torch's StepLR does."""
    return settings.step_factor ** (step // steps.per_epoch // settings.step_epochs)


def linear(step: int, steps: StepCount, settings: Train) -> float:
    """Decay the learning rate linearly to 0 after the warmup."""
    return (steps.total - step) / (steps.total * (1 - settings.warmup))


SCHEDULES: dict[str, Callable[[int, StepCount, Train], float]] = {
    "constant": constant,
    "step": step_decay,
    "linear": linear,
}


def learning_rate_factor(step: int, steps: StepCount, settings: Train) -> float:
    """Return the factor (0 to 1) of `train.learning_rate` at `step`, which counts from the start of training."""
    warmup = (step + 1) / (settings.warmup * steps.total) if settings.warmup else 1.0
    return min(1.0, warmup, SCHEDULES[settings.schedule](step, steps, settings))


def build_schedulers(optimizers: list[Optimizer], settings: Train, steps: StepCount, step: int = 0) -> list[LambdaLR]:
    """Return one scheduler per optimizer, set to `step`."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])  # LambdaLR requires it if last_epoch is not -1

    def factor(at: int) -> float:
        return learning_rate_factor(min(at, steps.total - 1), steps, settings)

    return [LambdaLR(optimizer, factor, last_epoch=step - 1) for optimizer in optimizers]
