"""A table of the layers of a network."""

import math

import torch
from torch import Tensor, nn


def model_summary(net: nn.Module, input_shape: tuple[int, ...]) -> str:
    """Return a table of layers, output shapes and parameters, and the megabytes for one input.

    Layers are the modules with parameters of their own, in the order they run. As in torchsummary, the forward/backward
    pass counts each output twice, at 4 bytes per number.
    """
    rows: list[tuple[str, list[int], int]] = []
    counted: set[nn.Parameter] = set()

    def add_row(layer: nn.Module, _: object, output: Tensor | tuple[Tensor, ...]) -> None:
        new = set(layer.parameters()) - counted
        counted.update(new)
        shape = (output if isinstance(output, Tensor) else output[0]).shape  # attention also returns its weights
        row = [-1, *shape[1:]], sum(weight.numel() for weight in new)
        rows.append((f"{type(layer).__name__}-{len(rows) + 1}", *row))

    layers = [layer for layer in net.modules() if list(layer.parameters(recurse=False))]
    hooks = [layer.register_forward_hook(add_row) for layer in layers]
    was_training = net.training
    with torch.no_grad():
        net.eval()(torch.zeros(2, *input_shape))  # in training mode, zeros would change running statistics
    net.train(was_training)
    for hook in hooks:
        hook.remove()

    total = sum(weight.numel() for weight in net.parameters())
    trainable = sum(weight.numel() for weight in net.parameters() if weight.requires_grad)
    outputs = sum(math.prod(shape[1:]) for _, shape, _ in rows)
    sizes = [4 * numbers / 2**20 for numbers in (math.prod(input_shape), 2 * outputs, total)]
    table = "".join(f"{name:>20}{shape!s:>26}{parameters:>16,}\n" for name, shape, parameters in rows)
    return f"""{"-" * 64}
{"Layer (type)":>20}{"Output Shape":>26}{"Param #":>16}
{"=" * 64}
{table}{"=" * 64}
Total params: {total:,}
Trainable params: {trainable:,}
Non-trainable params: {total - trainable:,}
{"-" * 64}
Input size (MB): {sizes[0]:.2f}
Forward/backward pass size (MB): {sizes[1]:.2f}
Params size (MB): {sizes[2]:.2f}
Estimated Total Size (MB): {sum(sizes):.2f}
{"-" * 64}"""
