"""The notebook's network."""

import torch.nn.functional as F
from torch import Tensor, nn

from src.models.registry import Shape, register


@register("net")
class Net(nn.Module):
    """Four unpadded convolutions, two max-pools and two linear layers: 593,200 parameters for 10 classes.

    Source: the notebook exercise "modularise an MNIST classifier".
    """

    def __init__(self, num_classes: int, shape: Shape) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(shape[0], 32, kernel_size=3)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3)
        self.conv3 = nn.Conv2d(64, 128, kernel_size=3)
        self.conv4 = nn.Conv2d(128, 256, kernel_size=3)
        self.fc1 = nn.Linear(256 * 4**2, 50)
        self.fc2 = nn.Linear(50, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map normalized images [batch, 1, 28, 28] to log-probabilities [batch, classes]."""
        x = F.relu(self.conv1(x))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        x = F.relu(self.conv3(x))
        x = F.relu(F.max_pool2d(self.conv4(x), 2))
        x = F.relu(self.fc1(x.flatten(1)))
        return F.log_softmax(self.fc2(x), dim=1)
