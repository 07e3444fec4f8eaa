"""Weight initialization."""

import pytest
import torch
from torch import nn

from src.models.init import init_weights
from src.registry import MODELS, create_model


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("scheme", ["pytorch", "kaiming"])
def test_weights_depend_only_on_the_seed(name: str, scheme: str) -> None:
    nets = [create_model(name, 10) for _ in range(3)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        init_weights(net, scheme, seed)
    first, same, other = (nn.utils.parameters_to_vector(net.parameters()) for net in nets)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_kaiming_draws_normal_weights_and_zero_biases() -> None:
    """The standard deviation is the square root of 2 / inputs: of 2 / 512 = 1 / 16."""
    layer = nn.Linear(512, 400)
    init_weights(layer, "kaiming", seed=0)
    assert layer.weight.std().item() == pytest.approx(1 / 16, rel=0.01)
    assert layer.bias.eq(0).all()


def test_pytorch_draws_the_defaults_of_the_layers() -> None:
    layer = nn.Linear(512, 400)
    init_weights(layer, "pytorch", seed=3)
    torch.manual_seed(3)
    assert torch.equal(layer.weight, nn.Linear(512, 400).weight)
