"""The notebook's model summary."""

from src.models.networks.dash import Dash
from src.models.networks.net import Net
from src.models.summary import model_summary
from tests.helpers import MNIST


def test_summary_equals_the_notebooks() -> None:
    assert model_summary(Net(10, MNIST), MNIST).splitlines() == [
        "----------------------------------------------------------------",
        "        Layer (type)              Output Shape         Param #",
        "================================================================",
        "            Conv2d-1          [-1, 32, 26, 26]             320",
        "            Conv2d-2          [-1, 64, 24, 24]          18,496",
        "            Conv2d-3         [-1, 128, 10, 10]          73,856",
        "            Conv2d-4           [-1, 256, 8, 8]         295,168",
        "            Linear-5                  [-1, 50]         204,850",
        "            Linear-6                  [-1, 10]             510",
        "================================================================",
        "Total params: 593,200",
        "Trainable params: 593,200",
        "Non-trainable params: 0",
        "----------------------------------------------------------------",
        "Input size (MB): 0.00",
        "Forward/backward pass size (MB): 0.67",
        "Params size (MB): 2.26",
        "Estimated Total Size (MB): 2.94",
        "----------------------------------------------------------------",
    ]


def test_rows_add_up_to_the_total_and_the_network_stays_as_it_is() -> None:
    net = Dash(10, MNIST)
    for _ in range(2):
        lines = model_summary(net, MNIST).splitlines()
        assert sum(int(line.split()[-1].replace(",", "")) for line in lines if "[-1" in line) == 38_570
    assert net.training
    assert not any(module._forward_hooks for module in net.modules())
