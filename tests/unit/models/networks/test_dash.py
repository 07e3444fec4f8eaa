"""`dash` crops its input."""

import torch
import torch.nn.functional as F

from src.models.networks.dash import Dash
from tests.helpers import MNIST


def test_dash_ignores_the_two_outermost_pixels() -> None:
    net, images = Dash(10, MNIST).eval(), torch.randn(2, *MNIST)
    changed = F.pad(images[..., 2:-2, 2:-2], [2] * 4)
    assert torch.equal(net(images), net(changed))
    changed[..., 2, 2] += 1
    assert not torch.equal(net(images), net(changed))
