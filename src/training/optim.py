"""Optimizers and the learning rate."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from src.models.registry import find_head
from src.params.train import TrainParams


def lr_factor(step: int, total_steps: int, steps_per_epoch: int, settings: TrainParams) -> float:
    """Return the factor (0 to 1) of `train.learning_rate` at `step`, which counts from 0."""
    warmup_steps = settings.warmup * total_steps
    if step < warmup_steps:
        return min(1.0, (step + 1) / warmup_steps)
    if settings.schedule == "linear":  # to 0 at the end
        return (total_steps - step) / (total_steps * (1 - settings.warmup))
    if settings.schedule == "step":  # as torch's StepLR
        return settings.gamma ** (step // steps_per_epoch // settings.step_size)
    return 1.0


def set_lr(optimizers: Iterable[Optimizer], factor: float) -> None:
    """Set the learning rate of all optimizers to `factor` times their initial one."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor


def build_optimizers(net: nn.Module, settings: TrainParams, precision: torch.dtype) -> list[Optimizer]:
    """Return optimizers that together hold each trainable parameter once.

    Weight decay applies to weights, not to biases, norms and embeddings. Muon takes the weights of convolutions and
    hidden linear layers, and leaves the rest to AdamW at a tenth of the learning rate, because orthogonal updates suit
    hidden weight matrices only.

    Args:
        settings: optimizer, learning_rate, momentum and weight_decay.
        precision: of Muon's matrix products.
    """
    lr, momentum = settings.learning_rate, settings.momentum
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    # the names of other parameters with two or more axes end differently: pos_embedding, layer_scale, ...
    named = net.named_parameters()
    decayed = {parameter for name, parameter in named if name.endswith("weight") and parameter.ndim > 1}
    hidden = decayed - set(net.get_submodule(find_head(net)).parameters())

    def groups(chosen: Sequence[nn.Parameter], lr: float) -> list[dict[str, Any]]:
        with_decay, without = [p for p in chosen if p in decayed], [p for p in chosen if p not in decayed]
        return [
            {"params": with_decay, "initial_lr": lr, "weight_decay": settings.weight_decay},
            {"params": without, "initial_lr": lr, "weight_decay": 0.0},
        ]

    if settings.optimizer == "sgd":
        return [SGD(groups(parameters, lr), momentum=momentum)]
    # fused: a step of dash takes 0.3 ms less, and square roots are exact (MKL's differ between processor makers)
    if settings.optimizer == "adamw":
        return [AdamW(groups(parameters, lr), betas=(momentum, 0.999), fused=True)]
    matrices, others = [p for p in parameters if p in hidden], [p for p in parameters if p not in hidden]
    muon = [Muon(groups(matrices, lr)[:1], momentum, precision)] if matrices else []
    return [*muon, AdamW(groups(others, lr / 10), fused=True)]


class Muon(Optimizer):
    """SGD with Nesterov momentum that orthogonalizes each update, for weights of two or more axes.

    torch's own Muon refuses the 4-D weights of convolutions (pytorch#166209). Three Newton-Schulz steps instead of five
    cost no accuracy here. Source: Keller Jordan et al., Muon, 2024.
    """

    def __init__(self, groups: list[dict[str, Any]], momentum: float, precision: torch.dtype) -> None:
        super().__init__(groups, {"momentum": momentum})
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:  # not used in the forward pass
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                buffer = state["momentum"]
                buffer.mul_(group["momentum"]).add_(weight.grad)
                update = weight.grad.add(buffer, alpha=group["momentum"]).movedim(1, -1)  # channels last, as in memory
                matrix = orthogonalize(update.flatten(1), self.precision)
                rows, columns = matrix.shape
                scale = -group["lr"] * max(1, rows / columns) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(matrix.view_as(update).movedim(-1, 1), alpha=scale)


def orthogonalize(matrix: Tensor, precision: torch.dtype = torch.float32, steps: int = 3) -> Tensor:
    """Move all singular values of a matrix [rows, columns] close to 1 with a quintic Newton-Schulz iteration.

    A step is X <- p(X X^T) X. All steps are polynomials of the small Gram matrix X X^T. They are multiplied first, and
    their product is applied to X once at the end: half the time in float32.
    """
    is_wide = matrix.shape[0] <= matrix.shape[1]
    x: Tensor = matrix if is_wide else matrix.T
    x = (x / (x.norm() + 1e-7)).to(precision)
    gram = (x @ x.T).float()
    product = polynomial = newton_schulz_polynomial(gram)
    for _ in range(steps - 1):
        gram = polynomial @ gram @ polynomial
        polynomial = newton_schulz_polynomial(gram)
        product = polynomial @ product
    x = (product.to(precision) @ x).float()
    return x if is_wide else x.T


def newton_schulz_polynomial(gram: Tensor) -> Tensor:
    """Return a I + b G + c G G, with Muon's coefficients, of a square float32 matrix G."""
    a, b, c = 3.4445, -4.7750, 2.0315
    result = torch.addmm(gram, gram, gram, beta=b, alpha=c)
    result.diagonal().add_(a)
    return result
