"""`res13`: a residual network for Fashion-MNIST."""

import torch.nn.functional as F
from torch import Tensor, nn

from src.models.networks.layers import Conv2d, conv_bn_relu
from src.models.registry import Shape, register


class ResidualBlock(nn.Sequential):
    """Two 3 x 3 convolutions added to their input, of the same shape [batch, channels, height, width].

    Source: He et al. 2015, "Deep Residual Learning for Image Recognition". Their batch norm after the first convolution
    would take a sixth of a training step and did not raise the accuracy after ten epochs.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(
            Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.ReLU(),
            Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + super().forward(x))


@register("res13")
class Res13(nn.Sequential):
    """Thirteen convolutions at 28, 14 and 7 pixels, ten of them in residual blocks: 574,058 parameters for 10 classes.

    For Fashion-MNIST, where it is more accurate than `Dash64`. Maps normalized images [batch, channels, 28, 28] to
    logits [batch, classes].
    """

    def __init__(self, num_classes: int, shape: Shape) -> None:
        super().__init__(
            *conv_bn_relu(shape[0], 32, 3, padding=1),
            ResidualBlock(32),
            ResidualBlock(32),
            *conv_bn_relu(32, 64, 3, stride=2, padding=1),
            ResidualBlock(64),
            ResidualBlock(64),
            *conv_bn_relu(64, 128, 3, stride=2, padding=1),
            ResidualBlock(128),
            nn.AvgPool2d(7),
            nn.Flatten(),
        )
        self.add_module("head", nn.Linear(128, num_classes))
