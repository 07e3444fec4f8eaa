"""Weight initialization."""

import torch
from torch import nn


def init_weights(net: nn.Module, scheme: str, seed: int) -> None:
    """Sample new weights for all convolutions and linear layers.

    Args:
        net: the network, changed in place.
        scheme: "pytorch" for the layers' defaults, or "kaiming" for normal weights and zero biases
            (He et al., Delving Deep into Rectifiers, 2015).
        seed: seed of torch's global generator.
    """
    torch.manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
            if scheme == "kaiming":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
