"""Layers that several networks share."""

import pytest
import torch
from torch import Tensor

from src.models.networks.layers import Conv2d


def gradients(layer: Conv2d, images: Tensor, precision: torch.dtype) -> tuple[str, list[Tensor]]:
    """Return the name of the function that computes the gradients, and those of the weights and of the images."""
    images = images.clone().requires_grad_()
    layer.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
        output = layer(images)
    (output.float() * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    assert layer.weight.grad is not None
    assert images.grad is not None
    return output.grad_fn.name(), [layer.weight.grad, images.grad]


@pytest.mark.parametrize(
    ("side", "kernel_size", "stride", "padding", "function"),
    [
        (11, 3, 2, 0, "MatmulConvBackward"),
        (7, 3, 1, 1, "MatmulConvBackward"),
        (8, 2, 2, 1, "MatmulConvBackward"),
        (28, 3, 2, 1, "ConvolutionBackward0"),
    ],
)
def test_gradients_in_bfloat16_are_those_of_float32(
    side: int, kernel_size: int, stride: int, padding: int, function: str
) -> None:
    torch.manual_seed(0)
    layer = Conv2d(3, 8, kernel_size, stride, padding, bias=False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    images = torch.randn(16, 3, side, side)
    found, values = gradients(layer, images, torch.bfloat16)
    _, expected = gradients(layer, images, torch.float32)
    assert found == function
    for value, other in zip(values, expected, strict=True):
        assert (value - other).abs().max() < 0.02 * other.abs().max()
