"""The residual network."""

import torch
from torch import nn

from src.models.networks.res13 import ResidualBlock


def test_block_adds_its_input_to_its_output() -> None:
    """With a scale of 0, batch norm returns its offset."""
    block = ResidualBlock(4)
    norm = block[3]
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.zeros_(norm.weight)
    nn.init.constant_(norm.bias, -0.5)
    images = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(block(images), (images - 0.5).clamp(min=0))
