"""Every network that `model.name` can select has what the rest of the code relies on."""

import re
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torchvision.models
from torch import nn

from src.models.build import find_head
from src.registry import (
    MODELS,
    ModelSpec,
    check_network,
    create_model,
    pretrained_weights,
    torchvision_names,
)
from tests.helpers import MNIST, ROOT

PARAMETERS = {  # for 10 classes
    "net": 593_200,
    "dash": 38_570,
    "dash32": 141_642,
    "dash64": 541_322,
    "conv7": 463_594,
    "tiny": 4_932,
    "micro": 997,
    "resnet18": 11_181_642,
}
# regnets cannot be built on the meta device: only those with at most 20 million parameters are built
BUILT_REGNETS = ("regnet_x_400mf", "regnet_x_800mf", "regnet_x_1_6gf", "regnet_y_400mf", "regnet_y_800mf")


def check(name: str, shape: tuple[int, int, int], pretrained: bool = False) -> None:
    check_network(name, shape, pretrained)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_matches_the_documentation(name: str) -> None:
    assert sum(weight.numel() for weight in create_model(name, 10, MNIST).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", MODELS)
def test_output_has_one_column_per_class(name: str) -> None:
    spec = MODELS[name]
    for size in spec.image_sizes:
        for channels in spec.channels:
            output = create_model(name, 7, (channels, size, size))(torch.randn(4, channels, size, size))
            assert output.shape == (4, 7)
            assert not torch.allclose(output.sum(dim=1), torch.ones(4)), "expected logits, found probabilities"


@pytest.mark.parametrize("name", MODELS)
def test_head_is_the_last_linear_layer(name: str) -> None:
    net = create_model(name, 10, MNIST)
    last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    assert net.get_submodule(find_head(net)) is last
    assert last.out_features == 10


@pytest.mark.parametrize(
    ("shape", "accepted"),
    [
        ((1, 28, 28), True),
        ((3, 32, 32), True),
        ((2, 28, 28), False),
        ((1, 28, 32), False),
        ((1, 36, 36), False),
        ((1, 20, 20), False),
    ],
)
def test_spec_lists_channels_and_sizes(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int, int], accepted: bool
) -> None:
    check_network.cache_clear()
    monkeypatch.setitem(MODELS, "other", ModelSpec("module:Class", image_sizes=(28, 32), channels=(1, 3)))
    if accepted:
        check("other", shape)
    else:
        with pytest.raises(ValueError, match="`other` does not accept "):
            check("other", shape)


@pytest.mark.parametrize("name", MODELS)
def test_own_networks_accept_gray_28_by_28_images_only(name: str) -> None:
    check(name, (1, 28, 28))
    with pytest.raises(ValueError, match=f"`{name}` does not accept color images of 28 x 28 pixels"):
        check(name, (3, 28, 28))


def test_registered_factory_is_imported_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "flat", ModelSpec("torch.nn:LazyLinear"))
    assert create_model("flat", 3, MNIST).out_features == 3


def test_check_of_an_own_network_imports_no_torch() -> None:
    """The stage `prepare` checks params.yaml, and needs no torch for MNIST."""
    code = "import sys; import src.registry as r; r.check_network('net', (1, 28, 28), False)"
    code += "; assert not {'torch', 'torchvision'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_names_are_those_of_torchvisions_classification_networks() -> None:
    names = torchvision_names()
    assert {"resnet18", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "vit_b_16"} <= set(names)
    assert names == torchvision.models.list_models(module=torchvision.models)
    assert not [name for name in names if "rcnn" in name or "quantized" in name or "raft" in name]
    assert not set(names) & set(MODELS)


@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_head_of_every_torchvision_network_has_one_output_per_class(name: str) -> None:
    if name.startswith("regnet_") and name not in BUILT_REGNETS:
        pytest.skip("too large to build")
    with torch.device("cpu" if name.startswith("regnet_") else "meta"):
        net = create_model(name, 7, (3, 224, 224))
    head = net.get_submodule(find_head(net))
    assert (head.out_features if isinstance(head, nn.Linear) else head.out_channels) == 7


@pytest.mark.parametrize("name", torchvision.models.list_models(module=torchvision.models))
def test_every_torchvision_network_has_default_weights_with_a_hash(name: str) -> None:
    weights = pretrained_weights(name)
    assert re.search(r"-[0-9a-f]{8,}\.pth$", weights.url)
    assert len(weights.meta["min_size"]) == 2


def works(call: Callable[[], object]) -> bool:
    try:
        call()
    except (AssertionError, RuntimeError, ValueError, ZeroDivisionError):
        return False
    return True


@pytest.mark.parametrize(
    ("name", "built_for", "works_at", "fails_at"),
    [
        ("resnet18", 32, [1, 8, 28, 45], []),
        ("mobilenet_v3_small", 32, [8, 28, 45], []),
        ("squeezenet1_1", 32, [28, 45], [8]),
        ("shufflenet_v2_x0_5", 32, [8, 28, 45], []),
        ("vit_b_16", 32, [32], [23, 28]),
        ("efficientnet_b0", 32, [8, 28, 45], []),
        ("alexnet", 64, [64], [46]),
    ],
)
def test_verdict_agrees_with_a_forward_pass(
    name: str, built_for: int, works_at: list[int], fails_at: list[int]
) -> None:
    """The verdict comes from the meta device, which computes shapes only."""
    net = create_model(name, 3, (3, built_for, built_for)).eval()
    sized = name.startswith("vit_")  # it has to be built for the size of its images

    def forward(side: int) -> None:
        with torch.no_grad():
            assert net(torch.zeros(1, 3, side, side)).shape == (1, 3)

    for side in (*works_at, *fails_at):
        assert works(lambda side=side: forward(side)) == (side in works_at)
        if not sized or side != 23:
            assert works(lambda side=side: check(name, (3, side, side))) == (side in works_at)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 28, 1024])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_networks_recommended_in_errors_accept_every_size(name: str, side: int, channels: int) -> None:
    check(name, (channels, side, side))


def test_gray_images_are_repeated_to_three_channels() -> None:
    torch.manual_seed(0)
    gray, color = create_model("squeezenet1_1", 3, (1, 32, 32)).eval(), create_model("squeezenet1_1", 3, (3, 32, 32))
    color.eval().load_state_dict(gray.state_dict())
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(gray(images), color(images.repeat(1, 3, 1, 1)))


@pytest.mark.parametrize(
    ("name", "shape", "pretrained", "message"),
    [
        ("resnet81", (3, 64, 64), False, "unknown model `resnet81`; did you mean resnet18?"),
        ("Net", MNIST, False, "unknown model `Net`; did you mean net?"),
        ("zebra", MNIST, False, "unknown model `zebra`; known models: net, dash, dash32, dash64, conv7, tiny, micro"),
        (
            "net", (3, 64, 64), False,
            "`net` does not accept color images of 64 x 64 pixels; resnet18 and mobilenet_v3_small do",
        ),
        (
            "resnet18", (3, 64, 32), False,
            "`resnet18` does not accept color images of 64 x 32 pixels",
        ),
        (
            "convnext_tiny", MNIST, False,
            "`convnext_tiny` does not accept gray images of 28 x 28 pixels; resnet18 and mobilenet_v3_small do",
        ),
        (
            "vit_b_16", (3, 60, 60), False,
            "`vit_b_16` does not accept color images of 60 x 60 pixels; resnet18 and mobilenet_v3_small do",
        ),
        ("net", MNIST, True, "`net` has no pretrained weights: set model.pretrained to false"),
        (
            "vit_b_16", (3, 64, 64), True,
            "the pretrained `vit_b_16` accepts only 224 x 224 pixels: set prepare.image_size to 224",
        ),
        (
            "maxvit_t", (1, 64, 64), True,
            "the pretrained `maxvit_t` accepts only 224 x 224 pixels: set prepare.image_size to 224",
        ),
    ],
)  # fmt: skip
def test_combination_that_cannot_work_is_a_clear_error(
    name: str, shape: tuple[int, int, int], pretrained: bool, message: str
) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        check(name, shape, pretrained)


@pytest.mark.parametrize("name", ["vit_b_16", "maxvit_t", "resnet18", "swin_t"])
def test_pretrained_networks_read_the_size_of_their_weights(name: str) -> None:
    check(name, (3, 224, 224), pretrained=True)


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "mnasnet0_5", "resnet18"])
def test_batch_norm_averages_over_few_batches(name: str) -> None:
    momenta = {layer.momentum for layer in create_model(name, 2, (3, 32, 32)).modules() if hasattr(layer, "momentum")}
    assert momenta == {0.1}
