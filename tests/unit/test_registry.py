"""Every network of `MODELS` has what the rest of the code relies on."""

import pytest
import torch
from torch import nn

from src.models.batch_norm import add_batch_norm
from src.registry import MODELS, ModelSpec, create_model

PARAMETERS = {"net": 593_200, "dash": 29_290, "tiny": 5_646}  # for 10 classes


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_count_matches_the_documentation(name: str) -> None:
    assert sum(weight.numel() for weight in create_model(name, 10).parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("name", MODELS)
def test_output_has_one_column_per_class(name: str) -> None:
    spec = MODELS[name]
    for size in spec.image_sizes:
        for channels in spec.channels:
            output = create_model(name, 7)(torch.randn(4, channels, size, size))
            assert output.shape == (4, 7)
            assert not torch.allclose(output.sum(dim=1), torch.ones(4)), "expected logits, found probabilities"


@pytest.mark.parametrize("name", MODELS)
def test_head_is_the_last_linear_layer(name: str) -> None:
    net = create_model(name, 10)
    last = [module for module in net.modules() if isinstance(module, nn.Linear)][-1]
    assert net.get_submodule(MODELS[name].head) is last
    assert last.out_features == 10


@pytest.mark.parametrize("name", [name for name, spec in MODELS.items() if spec.progressive_resizing])
def test_progressive_resizing_accepts_five_sevenths_of_the_size(name: str) -> None:
    spec = MODELS[name]
    side = round(spec.image_sizes[0] * 5 / 7)
    assert create_model(name, 10)(torch.randn(2, spec.channels[0], side, side)).shape == (2, 10)


@pytest.mark.parametrize("name", MODELS)
def test_batch_norm_is_added_if_the_spec_says_so(name: str) -> None:
    def norms(net: nn.Module) -> int:
        return sum(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in net.modules())

    net = create_model(name, 10)
    before = norms(net)
    add_batch_norm(net)
    assert (norms(net) > before) == MODELS[name].batch_norm


@pytest.mark.parametrize(
    ("shape", "accepted"),
    [
        ((1, 28, 28), True),
        ((3, 32, 32), True),
        ((2, 28, 28), False),
        ((1, 28, 32), False),
        ((1, 20, 20), False),
    ],
)
def test_accepts_compares_channels_and_size(shape: tuple[int, int, int], accepted: bool) -> None:
    spec = ModelSpec("module:Class", head="head", image_sizes=(28, 32), channels=(1, 3))
    assert spec.accepts(shape) == accepted


@pytest.mark.parametrize("name", MODELS)
def test_every_network_accepts_gray_28_by_28_images(name: str) -> None:
    assert MODELS[name].accepts((1, 28, 28))
    assert not MODELS[name].accepts((3, 28, 28))


def test_registered_factory_is_imported_when_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "flat", ModelSpec("torch.nn:LazyLinear", head=""))
    assert create_model("flat", 3).out_features == 3
