"""The network of the notebook, held to its numbers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.models.net import NETWORKS, Net, add_batch_norm, fold_batch_norm, initialize, summary


def test_shapes_and_parameters() -> None:
    """593,200 parameters, and log-probabilities that sum to 1."""
    net = Net(10)
    counts = [sum(weight.numel() for weight in layer.parameters()) for layer in net.children()]
    assert counts == [320, 18_496, 73_856, 295_168, 204_850, 510, 0, 0, 0, 0, 0]
    output = net(torch.randn(3, 1, 28, 28))
    assert output.shape == (3, 10)
    assert torch.allclose(output.exp().sum(dim=1), torch.ones(3))


def test_function_is_the_notebooks() -> None:
    """The forward pass equals the notebook's, written as a plain list of layers."""
    net = Net(10)
    layers = nn.Sequential(
        *(net.conv1, nn.ReLU(), net.conv2, nn.MaxPool2d(2), nn.ReLU(), net.conv3, nn.ReLU()),
        *(net.conv4, nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), net.fc1, nn.ReLU(), net.fc2, nn.LogSoftmax(dim=1)),
    )
    images = torch.randn(5, 1, 28, 28)
    assert torch.equal(net(images), layers(images))


def test_low_resolution_repeats_the_last_map() -> None:
    """20 x 20 pixels pass through the same weights."""
    assert Net(10)(torch.randn(2, 1, 20, 20)).shape == (2, 10)


@pytest.mark.parametrize("side", [28, 20])
def test_folding_the_norms_keeps_the_function(side: int) -> None:
    """After ten steps with batch normalisation: the same log-probabilities, from the tensors of `Net` and no others."""
    net, images = Net(10), torch.randn(32, 1, side, side)
    add_batch_norm(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(10):
        optimizer.zero_grad()
        F.nll_loss(net(images), torch.arange(32) % 10).backward()
        optimizer.step()
    net.eval()
    normalized = net(images)
    norms = (net.norm1, net.norm2, net.norm3, net.norm4, net.norm5)
    assert all(norm.weight.eq(1).all() for norm in norms)  # a negative one would not pass through max-pool
    folded, plain = fold_batch_norm(net), Net(10)
    assert torch.allclose(folded(images), normalized, atol=1e-4)
    assert torch.equal(net(images), normalized)  # training may go on
    assert folded.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(folded.state_dict())
    assert torch.equal(plain(images), folded(images))
    assert fold_batch_norm(folded) is folded


@pytest.mark.parametrize(("name", "parameters"), [("net", 593_200), ("dash", 29_290), ("tiny", 5_646)])
def test_every_network_gives_log_probabilities(name: str, parameters: int) -> None:
    """Of as many classes as asked, with the parameters it claims for 10."""
    assert sum(weight.numel() for weight in NETWORKS[name](10).parameters()) == parameters
    output = NETWORKS[name](7)(torch.randn(4, 1, 28, 28))
    assert output.shape == (4, 7)
    assert torch.allclose(output.exp().sum(dim=1), torch.ones(4))


def test_summary_has_the_notebooks_numbers() -> None:
    """Output shapes, parameters and megabytes as the notebook printed them."""
    lines = summary(Net(10), (1, 28, 28)).splitlines()
    rows = [line.split() for line in lines if "Conv2d" in line or "Linear" in line]
    assert [row[0] for row in rows] == ["Conv2d-1", "Conv2d-2", "Conv2d-3", "Conv2d-4", "Linear-5", "Linear-6"]
    shapes = ["[-1, 32, 26, 26]", "[-1, 64, 24, 24]", "[-1, 128, 10, 10]", "[-1, 256, 8, 8]", "[-1, 50]", "[-1, 10]"]
    assert [" ".join(row[1:-1]) for row in rows] == shapes
    for line in (
        "Total params: 593,200",
        "Input size (MB): 0.00",
        "Forward/backward pass size (MB): 0.67",
        "Params size (MB): 2.26",
        "Estimated Total Size (MB): 2.94",
    ):
        assert line in lines


@pytest.mark.parametrize("scheme", ["pytorch", "kaiming"])
def test_initial_weights_follow_from_the_seed(scheme: str) -> None:
    """Same seed, same weights; another seed, other weights."""
    nets = [Net(10), Net(10), Net(10)]
    for net, seed in zip(nets, (1, 1, 2), strict=True):
        initialize(net, scheme, seed)
    first, same, other = (net.conv4.weight for net in nets)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)
