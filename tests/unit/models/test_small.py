"""The small networks with built-in batch norm."""

import pytest
import torch
from torch import nn

from src.models.small import Dash, Separable, Tiny, UnscaledBatchNorm2d, conv_bn_relu


def test_dash_ignores_the_two_outermost_pixels() -> None:
    net = Dash(10).eval()
    images = torch.randn(2, 1, 28, 28)
    changed = torch.zeros_like(images)
    changed[..., 2:-2, 2:-2] = images[..., 2:-2, 2:-2]
    assert torch.equal(net(images), net(changed))
    changed[..., 2, 2] += 1
    assert not torch.equal(net(images), net(changed))


def test_tiny_returns_logits() -> None:
    net = Tiny(10).eval()
    nn.init.zeros_(net.head.weight)
    nn.init.constant_(net.head.bias, 3.0)
    assert net(torch.randn(2, 1, 28, 28)).tolist() == [[3.0] * 10] * 2


def test_separable_adds_its_input_if_shapes_agree() -> None:
    images = torch.randn(2, 8, 5, 5)
    same, wider = Separable(8, 8).eval(), Separable(8, 12).eval()
    assert torch.equal(same(images), images + same.pointwise(same.depthwise(images)))
    assert torch.equal(wider(images), wider.pointwise(wider.depthwise(images)))
    assert wider(images).shape == (2, 12, 5, 5)


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_unscaled_batch_norm_equals_batch_norm_with_a_weight_of_1(precision: torch.dtype) -> None:
    usual, unscaled = nn.BatchNorm2d(4), UnscaledBatchNorm2d(4)
    assert [name for name, _ in unscaled.named_parameters()] == ["bias"]
    images = (torch.randn(3, 4, 5, 5, dtype=precision) * 2 + 1).contiguous(memory_format=torch.channels_last)
    results = []
    for layer in (usual, unscaled):
        nn.init.constant_(layer.bias, 0.5)
        images = images.detach().requires_grad_()
        (layer(images).float() ** 3).sum().backward()
        results.append((layer.bias.grad, images.grad, layer.eval()(images)))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right)


def test_conv_bn_relu_is_a_convolution_without_bias_batch_norm_and_relu() -> None:
    layers = nn.Sequential(*conv_bn_relu(1, 4, 3, stride=2, padding=1))
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert layers[0].bias is None
    assert layers(torch.randn(2, 1, 28, 28)).shape == (2, 4, 14, 14)
