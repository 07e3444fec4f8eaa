"""Add batch norm to a network for training, and fold it into the weights afterwards.

The network's table `NORM_AFTER` names the identity placeholder that follows each layer.
"""

import copy
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval


def add_batch_norm(net: nn.Module) -> None:
    """Replace the placeholders of `net` with batch norm.

    The scale is fixed at 1, because the next layer can learn it. Max-pool commutes with a positive scale, so the norm
    can follow the pool, where it has a quarter of the values. The running statistics are a moving average over about
    the last 40 batches, so training has to end at full resolution: `Train` refuses `low_res_fraction: 1` with batch
    norm. Source: Ioffe and Szegedy, Batch Normalization, 2015.
    """
    for name, norm in _norm_after(net).items():
        layer: Any = net.get_submodule(name)
        kind = nn.BatchNorm1d if isinstance(layer, nn.Linear) else nn.BatchNorm2d
        setattr(net, norm, kind(len(layer.weight)))
        net.get_submodule(norm).weight.requires_grad = False  # type: ignore[union-attr]


@torch.no_grad()
def fold_batch_norm(net: nn.Module) -> nn.Module:
    """Return an equivalent copy of `net` with its added batch norm folded into the weights.

    Return `net` itself if it has no added batch norm.
    """
    norms = {name: norm for name, norm in _norm_after(net).items() if not isinstance(getattr(net, norm), nn.Identity)}
    if not norms:
        return net
    net = copy.deepcopy(net).eval()
    for name, norm in norms.items():
        layer = getattr(net, name)
        fuse: Any = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
        setattr(net, name, fuse(layer, getattr(net, norm)))
        setattr(net, norm, nn.Identity())
    return net


def _norm_after(net: nn.Module) -> dict[str, str]:
    table: dict[str, str] = getattr(net, "NORM_AFTER", {})
    return table
