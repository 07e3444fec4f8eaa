"""The notebook's model summary."""

import math

import torch
from torch import Tensor, nn


def model_summary(net: nn.Module, input_shape: tuple[int, ...]) -> str:
    """Return a table of layers, output shapes and parameters, and the megabytes for one input.

    Layers are the convolutions and linear layers in the order they run. As in torchsummary, the forward/backward pass
    counts each output twice, at 4 bytes per number.

    Args:
        net: the network.
        input_shape: channels, height and width.
    """
    rows: list[tuple[str, list[int], int]] = []

    def add_row(layer: nn.Module, _: object, output: Tensor) -> None:
        parameters = sum(weight.numel() for weight in layer.parameters())
        rows.append((f"{type(layer).__name__}-{len(rows) + 1}", [-1, *output.shape[1:]], parameters))

    layers = [layer for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    hooks = [layer.register_forward_hook(add_row) for layer in layers]
    was_training = net.training
    with torch.no_grad():
        net.eval()(torch.zeros(2, *input_shape))  # in training mode, zeros would change running statistics
    net.train(was_training)
    for hook in hooks:
        hook.remove()

    total = sum(weight.numel() for weight in net.parameters())
    trainable = sum(weight.numel() for weight in net.parameters() if weight.requires_grad)
    megabytes = {
        "Input size": math.prod(input_shape) * 4 / 2**20,
        "Forward/backward pass size": 2 * sum(math.prod(shape[1:]) for _, shape, _ in rows) * 4 / 2**20,
        "Params size": total * 4 / 2**20,
    }
    megabytes["Estimated Total Size"] = sum(megabytes.values())
    return "\n".join(
        [
            "-" * 64,
            f"{'Layer (type)':>20}{'Output Shape':>26}{'Param #':>16}",
            "=" * 64,
            *(f"{name:>20}{shape!s:>26}{parameters:>16,}" for name, shape, parameters in rows),
            "=" * 64,
            f"Total params: {total:,}",
            f"Trainable params: {trainable:,}",
            f"Non-trainable params: {total - trainable:,}",
            "-" * 64,
            *(f"{name} (MB): {size:.2f}" for name, size in megabytes.items()),
            "-" * 64,
        ]
    )
