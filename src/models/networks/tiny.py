"""`tiny` and `micro`: few parameters."""

from torch import Tensor, nn

from src.models.networks.layers import conv_bn_relu
from src.models.registry import Shape, register


@register("tiny")
class Tiny(nn.Sequential):
    """One convolution at 28 pixels, depthwise-separable ones at 14 and 7, then average pooling.

    It has 4,932 parameters for 10 classes. Maps normalized images [batch, 1, 28, 28] to logits [batch, classes].
    """

    def __init__(self, num_classes: int, shape: Shape) -> None:
        super().__init__(
            *conv_bn_relu(shape[0], 10, 3, padding=1),
            nn.MaxPool2d(2),
            Separable(10, 22),
            Separable(22, 22),
            Separable(22, 22),
            nn.MaxPool2d(2),
            Separable(22, 26),
            Separable(26, 26),
            Separable(26, 26),
            nn.AvgPool2d(7),
            nn.Flatten(),
        )
        self.add_module("head", nn.Linear(26, num_classes))


@register("micro")
class Micro(nn.Sequential):
    """One convolution at 26 pixels, depthwise-separable ones from 13 to 5, then average pooling.

    It has 997 parameters for 10 classes. Without padding, the convolutions themselves shrink 13 pixels to 5. Maps
    normalized images [batch, 1, 28, 28] to logits [batch, classes]. Widths and LeakyReLU are those of JoshWarn,
    Parameter-Efficient-MNIST, 2023, with batch norm instead of dropout.
    """

    def __init__(self, num_classes: int, shape: Shape) -> None:
        super().__init__(
            nn.Conv2d(shape[0], 7, kernel_size=3, bias=False),
            UnscaledBatchNorm2d(7),
            nn.MaxPool2d(2),
            nn.LeakyReLU(0.2),
            *separable_without_padding(7, 10),
            *separable_without_padding(10, 10),
            *separable_without_padding(10, 11),
            *separable_without_padding(11, 12),
            nn.AvgPool2d(5),
            nn.Flatten(),
        )
        self.add_module("head", nn.Linear(12, num_classes))


class UnscaledBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with a bias but without a weight.

    A positive weight would be redundant: it passes through LeakyReLU and pooling, and can be multiplied into the next
    layer's weights.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.register_parameter("weight", None)


class Separable(nn.Module):
    """A depthwise 3 x 3 convolution and a pointwise 1 x 1 convolution, with a residual connection if shapes agree.

    Sources: Howard et al., MobileNets, 2017; He et al., Deep Residual Learning, 2015.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(in_channels, in_channels, kernel_size=3, padding=1, groups=in_channels, bias=False)
        self.pointwise = nn.Sequential(*conv_bn_relu(in_channels, out_channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map features [batch, in_channels, height, width] to [batch, out_channels, height, width]."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return x + y if x.shape == y.shape else y


def separable_without_padding(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Return four layers: a depthwise 3 x 3 and a pointwise 1 x 1 convolution, unscaled batch norm, LeakyReLU."""
    return [
        nn.Conv2d(in_channels, in_channels, kernel_size=3, groups=in_channels, bias=False),
        nn.Conv2d(in_channels, out_channels, kernel_size=1, bias=False),
        UnscaledBatchNorm2d(out_channels),
        nn.LeakyReLU(0.2),
    ]
