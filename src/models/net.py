"""The notebook's network."""

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

FINAL_SIDE = 4  # height and width in pixels of the last feature map of a 28 x 28 image


class Net(nn.Module):
    """Four unpadded convolutions, two max-pools and two linear layers: 593,200 parameters for 10 classes.

    Source: the notebook exercise "modularise an MNIST classifier". `norm1` to `norm5` are identity placeholders that
    `add_batch_norm` replaces.
    """

    NORM_AFTER: ClassVar = {"conv1": "norm1", "conv2": "norm2", "conv3": "norm3", "conv4": "norm4", "fc1": "norm5"}

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3)
        self.conv3 = nn.Conv2d(64, 128, kernel_size=3)
        self.conv4 = nn.Conv2d(128, 256, kernel_size=3)
        self.fc1 = nn.Linear(256 * FINAL_SIDE**2, 50)
        self.fc2 = nn.Linear(50, num_classes)
        self.norm1, self.norm2, self.norm3, self.norm4, self.norm5 = (nn.Identity() for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        """Map normalized images [batch, 1, 28, 28], or [batch, 1, 20, 20], to log-probabilities [batch, classes]."""
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(F.max_pool2d(self.conv2(x), 2)))
        x = F.relu(self.norm3(self.conv3(x)))
        x = F.relu(self.norm4(F.max_pool2d(self.conv4(x), 2)))
        if x.shape[-1] == FINAL_SIDE // 2:  # 20 x 20 images end as 2 x 2 maps: repeat each value
            x = F.interpolate(x, size=FINAL_SIDE)
        x = F.relu(self.norm5(self.fc1(x.flatten(1))))
        return F.log_softmax(self.fc2(x), dim=1)
