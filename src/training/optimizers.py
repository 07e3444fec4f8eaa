"""Optimizers by name."""

import inspect
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from src.device import Compute
from src.models.build import find_head
from src.params import Train


def build_optimizers(net: nn.Module, settings: Train, compute: Compute) -> list[Optimizer]:
    """Return optimizers that together hold each trainable parameter once.

    Weight decay applies to weights, not to biases, norms and embeddings. Muon takes the weights of convolutions and
    hidden linear layers, and leaves the rest to AdamW at a tenth of the learning rate, because orthogonal updates suit
    hidden weight matrices only.

    Args:
        net: the network.
        settings: optimizer, learning_rate, momentum and weight_decay.
        compute: its precision is that of Muon's matrix products.
    """
    rate, momentum, decay = settings.learning_rate, settings.momentum, settings.weight_decay
    parameters = [parameter for parameter in net.parameters() if parameter.requires_grad]
    # the names of other parameters with two or more axes end differently: pos_embedding, layer_scale, ...
    weights = {
        parameter for name, parameter in net.named_parameters() if name.endswith("weight") and parameter.ndim > 1
    }
    head = set(net.get_submodule(find_head(net)).parameters())

    def groups(chosen: list[nn.Parameter]) -> list[dict[str, Any]]:
        decayed, others = [p for p in chosen if p in weights], [p for p in chosen if p not in weights]
        return [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]

    # fused: a step of dash takes 0.3 ms less, and square roots are exact (MKL's differ between processor makers)
    adamw = partial(without_dynamo(AdamW), fused=True)
    if settings.optimizer == "sgd":
        return [without_dynamo(SGD)(groups(parameters), lr=rate, momentum=momentum)]
    if settings.optimizer == "adamw":
        return [adamw(groups(parameters), lr=rate, betas=(momentum, 0.999))]
    hidden = [parameter for parameter in parameters if parameter in weights - head]
    others = groups([parameter for parameter in parameters if parameter not in weights - head])
    muon = [without_dynamo(Muon)(hidden, rate, momentum, decay, compute.precision)] if hidden else []
    return [*muon, adamw(others, lr=rate / 10)]


def without_dynamo(optimizer: type[Optimizer]) -> Callable[..., Optimizer]:
    """Return a subclass whose methods do not import torch._dynamo, which takes as long as importing torch itself.

    torch wraps these methods for torch.compile, which this project does not use. Without the wrappers, training one of
    this project's networks starts 2 to 4 s earlier. Networks of torchvision gain nothing: torchvision imports it, too.
    The subclass ignores the option `differentiable`.
    """
    names = ("step", "zero_grad", "add_param_group", "state_dict", "load_state_dict")
    methods = {name: inspect.unwrap(getattr(optimizer, name)) for name in names}
    methods["step"] = torch.no_grad()(methods["step"])
    return type(optimizer.__name__, (optimizer,), methods)


class Muon(Optimizer):
    """SGD with Nesterov momentum that orthogonalizes each update, for weights of two or more axes.

    torch's own Muon refuses the 4-D weights of convolutions (pytorch#166209). Three Newton-Schulz steps instead of five
    cost no accuracy here. Source: Keller Jordan et al., Muon, 2024.
    """

    def __init__(
        self, parameters: Iterable[Tensor], lr: float, momentum: float, weight_decay: float, precision: torch.dtype
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:  # frozen
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                buffer = state["momentum"]
                buffer.mul_(group["momentum"]).add_(weight.grad)
                update = orthogonalize(weight.grad.add(buffer, alpha=group["momentum"]).flatten(1), self.precision)
                rows, columns = update.shape
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(update.view_as(weight), alpha=-group["lr"] * max(1, rows / columns) ** 0.5)


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
    result = torch.add(b * gram, gram @ gram, alpha=c)
    result.diagonal().add_(a)
    return result
