"""`Net` has the layers, parameter counts and outputs of the notebook's network."""

import torch
from torch import nn

from src.models.net import Net


def test_layers_have_the_notebooks_parameter_counts() -> None:
    counts = [sum(weight.numel() for weight in layer.parameters()) for layer in Net(10).children()]
    assert counts == [320, 18_496, 73_856, 295_168, 204_850, 510]


def test_output_is_log_probabilities() -> None:
    output = Net(10)(torch.randn(3, 1, 28, 28))
    assert output.shape == (3, 10)
    assert torch.allclose(output.exp().sum(dim=1), torch.ones(3))


def test_forward_pass_equals_the_notebooks() -> None:
    net = Net(10)
    layers = nn.Sequential(
        *(net.conv1, nn.ReLU(), net.conv2, nn.MaxPool2d(2), nn.ReLU(), net.conv3, nn.ReLU()),
        *(net.conv4, nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(), net.fc1, nn.ReLU(), net.fc2, nn.LogSoftmax(dim=1)),
    )
    images = torch.randn(5, 1, 28, 28)
    assert torch.equal(net(images), layers(images))
