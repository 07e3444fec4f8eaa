"""Batch norm that exists in training only."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from src.models.batch_norm import add_batch_norm, fold_batch_norm
from src.models.net import Net
from src.models.small import Tiny


def train_with_batch_norm(images: torch.Tensor) -> Net:
    net = Net(10)
    add_batch_norm(net)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        F.nll_loss(net(images), torch.arange(len(images)) % 10).backward()
        optimizer.step()
    return net.eval()


@pytest.mark.parametrize("side", [28, 20])
def test_folded_network_computes_the_same_function(side: int) -> None:
    images = torch.randn(16, 1, side, side)
    net = train_with_batch_norm(images)
    expected = net(images)
    folded, plain = fold_batch_norm(net), Net(10)
    assert torch.allclose(folded(images), expected, atol=1e-4)
    assert folded.state_dict().keys() == plain.state_dict().keys()
    plain.load_state_dict(folded.state_dict())
    assert torch.equal(plain(images), folded(images))


def test_folding_leaves_the_network_in_training_unchanged() -> None:
    images = torch.randn(8, 1, 28, 28)
    net = train_with_batch_norm(images)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    fold_batch_norm(net)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert isinstance(net.norm1, nn.BatchNorm2d)


def test_scale_of_the_norms_stays_one() -> None:
    """A negative scale would not pass through max-pool."""
    net = train_with_batch_norm(torch.randn(8, 1, 28, 28))
    norms = [net.norm1, net.norm2, net.norm3, net.norm4, net.norm5]
    assert [type(norm).__name__ for norm in norms] == ["BatchNorm2d"] * 4 + ["BatchNorm1d"]
    assert all(norm.weight.eq(1).all() for norm in norms)
    assert any(norm.bias.ne(0).any() for norm in norms)


def test_network_without_added_norms_is_returned_unchanged() -> None:
    for net in (Net(10), Tiny(10), fold_batch_norm(train_with_batch_norm(torch.randn(8, 1, 28, 28)))):
        assert fold_batch_norm(net) is net


def test_network_without_placeholders_is_not_changed() -> None:
    net = Tiny(10)
    layers = list(net.modules())
    add_batch_norm(net)
    assert list(net.modules()) == layers
