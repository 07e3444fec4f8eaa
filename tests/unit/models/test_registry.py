"""Every network that `model.name` can select has what the rest of the code relies on."""

import pytest
import torch
from torch import nn

from src.models.registry import NETWORKS, Shape, create_model, find_head, register
from src.runtime.errors import PipelineError
from tests.helpers import MNIST


@pytest.mark.parametrize(
    ("name", "num_params"),
    {"net": 593_200, "dash": 38_570, "dash32": 141_642, "dash64": 541_322, "res13": 574_058}.items(),
)
def test_parameter_count_matches_the_documentation(name: str, num_params: int) -> None:
    assert sum(weight.numel() for weight in create_model(name, 10, MNIST).parameters()) == num_params


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_output_has_one_column_per_class_and_is_not_a_probability(name: str, channels: int) -> None:
    output = create_model(name, 7, (channels, 28, 28))(torch.randn(4, channels, 28, 28))
    assert output.shape == (4, 7)
    assert not torch.allclose(output.sum(dim=1), torch.ones(4))


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("net", "fc2"),
        ("dash", "head"),
        ("resnet18", "fc"),
        ("squeezenet1_1", "classifier.1"),
        ("vit_b_16", "heads.head"),
    ],
)
def test_head_is_found(name: str, head: str) -> None:
    with torch.device("meta"):
        net = create_model(name, 7, (1, 32, 32))
    assert find_head(net) == head
    assert len(net.get_submodule(head).bias) == 7


def test_registered_network_can_be_selected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(NETWORKS, "flat", raising=False)

    @register("flat")
    def build(num_classes: int, shape: Shape) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(shape[1] * shape[2], num_classes))

    assert create_model("flat", 3, MNIST)(torch.zeros(2, *MNIST)).shape == (2, 3)


@pytest.mark.parametrize(("name", "near"), [("resnet81", "resnet18"), ("Net", "net"), ("zebra", "resnet18")])
def test_unknown_name_is_an_error_with_a_suggestion(name: str, near: str) -> None:
    with pytest.raises(PipelineError) as error:
        create_model(name, 10, MNIST)
    assert str(error.value) == (
        f"error: model.name is {name}, expected {', '.join(NETWORKS)} or a classification network of torchvision\n"
        f"hint: dvc exp run -S model.name={near}"
    )


def test_gray_images_are_repeated_to_three_channels() -> None:
    gray, color = create_model("squeezenet1_1", 3, (1, 32, 32)).eval(), create_model("squeezenet1_1", 3, (3, 32, 32))
    color.eval().load_state_dict(gray.state_dict())
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(gray(images), color(images.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mnasnet0_5"])  # 0.01 and 0.0003 in torchvision
def test_batch_norm_averages_over_few_batches(name: str) -> None:
    layers = create_model(name, 2, (3, 32, 32)).modules()
    assert {layer.momentum for layer in layers if isinstance(layer, nn.BatchNorm2d)} == {0.1}
