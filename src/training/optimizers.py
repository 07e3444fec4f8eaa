"""Optimisers and learning rates by name."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from src.params import Train


class Muon(Optimizer):
    """SGD with Nesterov momentum, its step replaced by the nearest orthogonal matrix, for weights of 2 or more axes.

    Source: Keller Jordan et al., Muon, 2024. Three Newton-Schulz steps instead of five cost nothing in accuracy here.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, momentum: float, weight_decay: float, precision: torch.dtype
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure: it would train twice
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                average = state["momentum"]
                average.mul_(group["momentum"]).add_(weight.grad)
                update = orthogonalize(weight.grad.add(average, alpha=group["momentum"]).flatten(1), self.precision)
                rows, columns = update.shape
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update.view_as(weight), alpha=-group["lr"] * max(1, rows / columns) ** 0.5)


def orthogonalize(matrix: Tensor, precision: torch.dtype = torch.float32, steps: int = 3) -> Tensor:
    """Bring all singular values of a matrix [rows, columns] near 1, by a quintic Newton-Schulz iteration.

    The same polynomial of X X^T multiplies X at each step, so the steps are taken on that small square alone, and the
    two products with the large X are left: in float32, half the time.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrix.shape[0] <= matrix.shape[1]
    x: Tensor = matrix if wide else matrix.T
    x = (x / (x.norm() + 1e-7)).to(precision)
    square = (x @ x.T).float()
    identity = torch.eye(len(square), device=square.device)
    product = polynomial = a * identity + b * square + c * square @ square
    for _ in range(steps - 1):
        square = polynomial @ square @ polynomial
        polynomial = a * identity + b * square + c * square @ square
        product = polynomial @ product
    x = (product.to(precision) @ x).float()
    return x if wide else x.T


def build_optimizers(net: nn.Module, settings: Train, precision: torch.dtype) -> list[Optimizer]:
    """The optimisers that together hold every parameter once; each group keeps its `initial_lr`."""
    rate, momentum, decay = settings.learning_rate, settings.momentum, settings.weight_decay
    parameters = list(net.parameters())
    fused = settings.portable or None  # exact square roots; otherwise they are MKL's, which differ between makers
    optimizers: list[Optimizer]
    if settings.optimizer == "sgd":
        optimizers = [SGD(parameters, lr=rate, momentum=momentum, weight_decay=decay)]
    elif settings.optimizer == "adamw":
        optimizers = [AdamW(parameters, lr=rate, betas=(momentum, 0.999), weight_decay=decay, fused=fused)]
    else:  # the last layer and the biases are not rotations of anything: a tenth of the rate, by AdamW
        *hidden, _ = [weight for weight in parameters if weight.ndim > 1]
        others = [weight for weight in parameters if not any(weight is item for item in hidden)]
        adamw = AdamW(others, lr=rate / 10, weight_decay=0.01, fused=fused)
        optimizers = [Muon(hidden, rate, momentum, decay, precision), adamw]
    for group in (group for optimizer in optimizers for group in optimizer.param_groups):
        group["initial_lr"] = group["lr"]
    return optimizers


def rate_factor(step: int, steps_per_epoch: int, settings: Train) -> float:
    """The fraction of the learning rate used at `step`, counted from 0 over the whole training."""
    total = count_steps(steps_per_epoch, settings)
    rising = (step + 1) / (settings.warmup * total) if settings.warmup else 1.0
    if settings.schedule == "linear":
        return min(1.0, rising, (total - step) / (total * (1 - settings.warmup)))
    if settings.schedule == "step":
        return settings.step_factor ** (step // steps_per_epoch // settings.step_epochs)
    return min(1.0, rising)


def count_steps(steps_per_epoch: int, settings: Train) -> int:
    """Steps of the whole training; `train.epochs` may end within an epoch."""
    return math.ceil(steps_per_epoch * settings.epochs)


def set_rate(optimizers: list[Optimizer], factor: float) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor
