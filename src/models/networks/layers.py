"""Layers that several networks share."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALL = 7  # pixels per side of an output


def conv_bn_relu(
    in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    """Return three layers: a convolution without bias, batch norm, ReLU."""
    return [
        Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]


class Conv2d(nn.Conv2d):
    """A convolution with a square kernel and no bias that trains faster on processors with AMX, if its output is small.

    There, in bfloat16, oneDNN needs up to five times as long for the gradient of the weights as `MatmulConv`: a step of
    `dash32` takes a tenth less time with it. Larger outputs would need too much memory. With AVX512-BF16 alone, both
    take the same time.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map [batch, in_channels, height, width] to [batch, out_channels, new height, new width]."""
        is_small = x.shape[-1] // self.stride[0] <= SMALL
        if not (is_small and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")):
            return super().forward(x)
        stride, padding = self.stride[0], int(self.padding[0])
        output: Tensor = MatmulConv.apply(x.bfloat16(), self.weight.bfloat16(), stride, padding)
        return output


class MatmulConv(torch.autograd.Function):
    """A convolution whose weights get their gradient as a product of the output's gradient and patches of the input."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return F.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:  # type: ignore[override]  # one gradient
        x, weight = ctx.saved_tensors
        outputs, inputs, size, _ = weight.shape
        stride, padding = [ctx.stride] * 2, [ctx.padding] * 2
        only_x = [True, False, False]
        grad_x, _, _ = torch.ops.aten.convolution_backward(
            grad, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, only_x
        )
        rows = F.pad(x, padding * 2).permute(0, 2, 3, 1)  # channels last
        patches = rows.unfold(1, size, ctx.stride).unfold(2, size, ctx.stride).permute(0, 1, 2, 4, 5, 3)
        product = grad.permute(0, 2, 3, 1).reshape(-1, outputs).T @ patches.reshape(-1, size * size * inputs)
        return grad_x, product.view(outputs, size, size, inputs).permute(0, 3, 1, 2), None, None
