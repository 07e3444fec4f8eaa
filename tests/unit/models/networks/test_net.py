"""The notebook's network."""

import torch
from torch import nn

from src.models.networks.net import Net
from tests.helpers import MNIST


def test_forward_pass_equals_the_notebooks() -> None:
    net = Net(10, MNIST)
    layers = nn.Sequential(
        *(net.conv1, nn.ReLU(), net.conv2, nn.MaxPool2d(2), nn.ReLU(), net.conv3, nn.ReLU()),
        *(net.conv4, nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), net.fc1, nn.ReLU(), net.fc2, nn.LogSoftmax(dim=1)),
    )
    images = torch.randn(5, *MNIST)
    assert torch.equal(net(images), layers(images))
