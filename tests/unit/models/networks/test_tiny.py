"""The layers of `tiny` and `micro`."""

import torch
from torch import nn

from src.models.networks.tiny import Separable, UnscaledBatchNorm2d


def test_separable_adds_its_input_if_shapes_agree() -> None:
    images = torch.randn(2, 8, 5, 5)
    same, wider = Separable(8, 8).eval(), Separable(8, 12).eval()
    assert torch.equal(same(images), images + same.pointwise(same.depthwise(images)))
    assert torch.equal(wider(images), wider.pointwise(wider.depthwise(images)))


def test_unscaled_batch_norm_equals_batch_norm_with_a_weight_of_1() -> None:
    usual, unscaled = nn.BatchNorm2d(4), UnscaledBatchNorm2d(4)
    assert [name for name, _ in unscaled.named_parameters()] == ["bias"]
    images, results = torch.randn(3, 4, 5, 5) * 2 + 1, []
    for layer in (usual, unscaled):
        nn.init.constant_(layer.bias, 0.5)
        (layer(images) ** 3).sum().backward()
        results.append((layer.bias.grad, layer.eval()(images)))
    for left, right in zip(*results, strict=True):
        torch.testing.assert_close(left, right)
