"""The network of the notebook, exactly, two small ones beside it, and their summary."""

import copy
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

NORMS = {"conv1": "norm1", "conv2": "norm2", "conv3": "norm3", "conv4": "norm4", "fc1": "norm5"}  # where they stand
FINAL_MAP = 4  # pixels on a side of the last feature map of a 28 x 28 image


class Net(nn.Module):
    """Four convolutions without padding, two max-pools, two linear layers: 593,200 parameters for 10 classes.

    Source: the notebook exercise "modularise an MNIST classifier". Its five `norm`s do nothing, hold nothing and are
    only the places that `add_batch_norm` uses in training.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3)
        self.conv3 = nn.Conv2d(64, 128, kernel_size=3)
        self.conv4 = nn.Conv2d(128, 256, kernel_size=3)
        self.fc1 = nn.Linear(256 * FINAL_MAP**2, 50)
        self.fc2 = nn.Linear(50, classes)
        self.norm1, self.norm2, self.norm3, self.norm4, self.norm5 = (nn.Identity() for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised float images [n, 1, 28, 28], or [n, 1, 20, 20] in training, to log-probabilities [n, classes]."""
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(F.max_pool2d(self.conv2(x), 2)))
        x = F.relu(self.norm3(self.conv3(x)))
        x = F.relu(self.norm4(F.max_pool2d(self.conv4(x), 2)))
        if x.shape[-1] != FINAL_MAP:  # 20 x 20 pixels end as 2 x 2: each value is repeated
            x = F.interpolate(x, size=FINAL_MAP)
        x = F.relu(self.norm5(self.fc1(x.flatten(1))))
        return F.log_softmax(self.fc2(x), dim=1)


def add_batch_norm(net: nn.Module) -> None:
    """Let `net` train with batch normalisation after all its layers but the last.

    The scale stays 1: a positive factor passes through max-pool and relu, so the norm may stand behind the pool, on a
    quarter of the values, and the next layer learns the scale anyway. What `fold_batch_norm` uses is the mean and
    variance of about the last 40 batches, so these have to be at full resolution. Source: Ioffe and Szegedy, 2015.
    """
    for name, norm in NORMS.items():
        layer = getattr(net, name)
        kind = nn.BatchNorm1d if isinstance(layer, nn.Linear) else nn.BatchNorm2d
        setattr(net, norm, kind(len(layer.weight)))
        getattr(net, norm).weight.requires_grad = False


@torch.no_grad()
def fold_batch_norm(net: nn.Module) -> nn.Module:
    """`net` itself, or a copy of one with `add_batch_norm`, its norms multiplied into the layers: the same function."""
    if not isinstance(net, Net) or isinstance(net.norm1, nn.Identity):
        return net
    net = copy.deepcopy(net).eval()
    for name, norm in NORMS.items():
        layer = getattr(net, name)
        fuse: Any = fuse_linear_bn_eval if isinstance(layer, nn.Linear) else fuse_conv_bn_eval
        setattr(net, name, fuse(layer, getattr(net, norm)))
        setattr(net, norm, nn.Identity())
    return net


class Dash(nn.Sequential):
    """Three convolutions of which two stride, batch-normalised: 29,290 parameters, an epoch in seconds.

    The two outermost pixels on each side are left out: 12 % of the digits reach there, yet nothing is lost, and a tenth
    of the time is saved.
    Normalised float images [n, 1, 28, 28] to log-probabilities [n, classes].
    """

    def __init__(self, classes: int) -> None:
        super().__init__(
            nn.ZeroPad2d(-2),
            *convolution(1, 16, 4, stride=2),
            *convolution(16, 32, 3, stride=2),
            *convolution(32, 64, 3),
            nn.Flatten(),
            nn.Linear(64 * 3**2, classes),
            nn.LogSoftmax(dim=1),
        )


class Tiny(nn.Sequential):
    """Depthwise-separable convolutions at 28, 14 and 7 pixels, and an average: 5,646 parameters.

    Normalised float images [n, 1, 28, 28] to log-probabilities [n, classes].
    """

    def __init__(self, classes: int) -> None:
        super().__init__(
            *convolution(1, 12, 3, padding=1),
            Separable(12, 16),
            nn.MaxPool2d(2),
            Separable(16, 24),
            Separable(24, 24),
            nn.MaxPool2d(2),
            Separable(24, 30),
            Separable(30, 30),
            Separable(30, 30),
            nn.AvgPool2d(7),
            nn.Flatten(),
            nn.Linear(30, classes),
            nn.LogSoftmax(dim=1),
        )


class Separable(nn.Module):
    """A 3 x 3 convolution of each channel alone, then a 1 x 1 across them; added to its input where the shapes agree.

    Source: Howard et al., MobileNets, 2017; He et al., Deep Residual Learning, 2015.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(inputs, inputs, kernel_size=3, padding=1, groups=inputs, bias=False)
        self.pointwise = nn.Sequential(*convolution(inputs, outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Float maps [n, inputs, height, width] to [n, outputs, height, width]."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return x + y if x.shape == y.shape else y


def convolution(inputs: int, outputs: int, side: int, stride: int = 1, padding: int = 0) -> list[nn.Module]:
    """A convolution without bias, which the batch normalisation after it has, and relu."""
    return [
        nn.Conv2d(inputs, outputs, side, stride, padding, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


NETWORKS = {"net": Net, "dash": Dash, "tiny": Tiny}


def initialize(net: nn.Module, scheme: str, seed: int) -> None:
    """Draw the first weights from `seed`: "pytorch" as its layers do by default, "kaiming" normal with zero biases.

    Source of the latter: He et al., Delving Deep into Rectifiers, 2015.
    """
    torch.manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
            if scheme == "kaiming":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def summary(net: nn.Module, input_shape: tuple[int, ...]) -> str:
    """The table of the notebook: layer, output shape, parameters, and megabytes for one input of `input_shape`.

    Layers are the modules with parameters, in the order they run; the forward/backward pass counts their outputs
    twice, as torchsummary does, at 4 bytes a number.
    """
    rows: list[tuple[str, list[int], int]] = []

    def note(layer: nn.Module, _: object, output: Tensor) -> None:
        parameters = sum(weight.numel() for weight in layer.parameters())
        rows.append((f"{type(layer).__name__}-{len(rows) + 1}", [-1, *output.shape[1:]], parameters))

    hooks = [layer.register_forward_hook(note) for layer in net.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        net(torch.zeros(2, *input_shape))
    for hook in hooks:
        hook.remove()

    total = sum(weight.numel() for weight in net.parameters())
    trainable = sum(weight.numel() for weight in net.parameters() if weight.requires_grad)
    megabytes = {
        "Input size": math.prod(input_shape) * 4 / 2**20,
        "Forward/backward pass size": 2 * sum(math.prod(shape[1:]) for _, shape, _ in rows) * 4 / 2**20,
        "Params size": total * 4 / 2**20,
    }
    megabytes["Estimated Total Size"] = sum(megabytes.values())
    thin, thick = "-" * 64, "=" * 64
    layers = [f"{name:>20}{shape!s:>26}{parameters:>16,}" for name, shape, parameters in rows]
    sizes = [f"{name} (MB): {size:.2f}" for name, size in megabytes.items()]
    totals = f"Total params: {total:,}\nTrainable params: {trainable:,}\nNon-trainable params: {total - trainable:,}"
    header = f"{'Layer (type)':>20}{'Output Shape':>26}{'Param #':>16}"
    return "\n".join([thin, header, thick, *layers, thick, totals, thin, *sizes, thin])
