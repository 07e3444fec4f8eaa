"""The three optimizers, and Muon against its definition."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW

from src.device import Compute
from src.models.build import find_head
from src.params import Train
from src.registry import MODELS, create_model
from src.training.loop import train
from src.training.optimizers import Muon, build_optimizers, orthogonalize
from src.training.state import TrainState
from tests.helpers import MNIST, ROOT, random_dataset, run

COMPUTE = Compute(torch.device("cpu"), torch.float32)
Settings = Callable[..., Train]


def parameters_of(*optimizers: torch.optim.Optimizer) -> list[Tensor]:
    return [weight for optimizer in optimizers for group in optimizer.param_groups for weight in group["params"]]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return sorted(map(id, first)) == sorted(map(id, second))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_each_trainable_parameter_has_exactly_one_optimizer(settings: Settings, name: str, optimizer: str) -> None:
    net = create_model(name, 10, MNIST)
    next(net.parameters()).requires_grad = False
    held = parameters_of(*build_optimizers(net, settings(optimizer=optimizer), COMPUTE))
    assert same(held, [weight for weight in net.parameters() if weight.requires_grad])


@pytest.mark.parametrize("name", MODELS)
def test_muon_takes_hidden_weights_and_leaves_the_head_to_adamw(settings: Settings, name: str) -> None:
    net = create_model(name, 10, MNIST)
    muon, adamw = build_optimizers(net, settings(optimizer="muon"), COMPUTE)
    assert isinstance(muon, Muon)
    assert isinstance(adamw, AdamW)
    head = list(net.get_submodule(find_head(net)).parameters())
    hidden = [weight for weight in net.parameters() if weight.ndim > 1 and not any(weight is own for own in head)]
    assert same(parameters_of(muon), hidden)
    assert all(any(weight is own for own in parameters_of(adamw)) for weight in head)


def test_network_without_hidden_weights_is_trained_without_muon(settings: Settings) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    (adamw,) = build_optimizers(net, settings(optimizer="muon"), COMPUTE)
    assert isinstance(adamw, AdamW)
    assert same(parameters_of(adamw), list(net.parameters()))


def test_optimizers_take_the_steps_of_torch_without_importing_dynamo() -> None:
    """In a new process, because other tests may have imported torch._dynamo."""
    code = """
import sys, torch
from torch.optim import SGD, AdamW
from src.training.optimizers import Muon, without_dynamo

MUON = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "precision": torch.float32}

def train(wrap):
    weight = torch.nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 5.0]]))
    for kind, options in ((SGD, {"lr": 0.1, "momentum": 0.9}), (AdamW, {"lr": 0.1}), (Muon, MUON)):
        optimizer = wrap(kind)([weight], **options)
        for _ in range(3):
            optimizer.zero_grad()
            (weight**2).sum().backward()
            optimizer.step()
            saved = optimizer.state_dict()
            optimizer = wrap(kind)([weight], **options)
            optimizer.load_state_dict(saved)
    return weight.tolist()

weights = train(without_dynamo)
print("torch._dynamo" in sys.modules)
print(weights == train(lambda kind: kind))
"""
    assert run(["python", "-c", code], ROOT).stdout.split() == ["False", "True"]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_weight_decay_excludes_norms_and_biases(settings: Settings, name: str, optimizer: str) -> None:
    net = create_model(name, 10, MNIST)
    optimizers = build_optimizers(net, settings(optimizer=optimizer, weight_decay=0.3), COMPUTE)
    for part in optimizers:
        for group in part.param_groups:
            assert {group["weight_decay"]} == {0.3 if weight.ndim > 1 else 0.0 for weight in group["params"]}
    decaying = [group for part in optimizers for group in part.param_groups if group["weight_decay"] == 0.3]
    assert len(decaying) == len(optimizers)


def names_by_role(net: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict[str, set[str]]:
    """Return the names of the parameters, by optimizer and by whether they decay."""
    names = {parameter: name for name, parameter in net.named_parameters()}
    roles: dict[str, set[str]] = {}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            role = f"{type(optimizer).__name__} {'with' if group['weight_decay'] else 'without'} decay"
            roles.setdefault(role, set()).update(names[parameter] for parameter in group["params"])
    return roles


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return create_model(name, 10, (3, 32, 32))


HEADS = {
    "resnet18": "fc",
    "mobilenet_v3_small": "classifier.3",
    "squeezenet1_1": "classifier.1",
    "vit_b_16": "heads.head",
    "swin_t": "head",
    "convnext_tiny": "classifier.2",
}


@pytest.mark.parametrize("name", HEADS)
def test_muon_takes_convolutions_and_hidden_linear_layers_of_torchvisions_networks(
    settings: Settings, name: str
) -> None:
    net, head = on_meta(name), HEADS[name]
    roles = names_by_role(net, build_optimizers(net, settings(optimizer="muon", weight_decay=0.3), COMPUTE))
    hidden = {
        f"{layer}.{weight}"
        for layer, module in net.named_modules()
        for weight, kind in {"weight": nn.Conv2d | nn.Linear, "in_proj_weight": nn.MultiheadAttention}.items()
        if isinstance(module, kind) and layer != head
    }
    assert roles == {
        "Muon with decay": hidden,
        "AdamW with decay": {f"{head}.weight"},
        "AdamW without decay": {name for name, _ in net.named_parameters()} - hidden - {f"{head}.weight"},
    }


@pytest.mark.parametrize(
    ("name", "muon", "without_decay"),
    [
        (
            "resnet18",
            {"conv1.weight", "layer1.0.conv1.weight", "layer2.0.downsample.0.weight"},
            {"bn1.weight", "fc.bias"},
        ),
        (
            "mobilenet_v3_small",
            {
                "features.0.0.weight",
                "features.1.block.0.0.weight",
                "features.1.block.1.fc1.weight",
                "classifier.0.weight",
            },
            {"features.0.1.weight", "features.0.1.bias", "features.1.block.1.fc1.bias", "classifier.3.bias"},
        ),
        (
            "vit_b_16",
            {
                "conv_proj.weight",
                "encoder.layers.encoder_layer_0.self_attention.in_proj_weight",
                "encoder.layers.encoder_layer_0.self_attention.out_proj.weight",
                "encoder.layers.encoder_layer_0.mlp.0.weight",
            },
            {
                "class_token",
                "encoder.pos_embedding",
                "encoder.ln.weight",
                "encoder.layers.encoder_layer_0.ln_1.weight",
                "encoder.layers.encoder_layer_0.self_attention.in_proj_bias",
                "heads.head.bias",
            },
        ),
        ("convnext_tiny", {"features.0.0.weight"}, {"features.1.0.layer_scale", "features.0.1.weight"}),
        (
            "swin_t",
            {"features.1.0.attn.qkv.weight"},
            {"features.1.0.attn.relative_position_bias_table", "features.1.0.norm1.weight"},
        ),
    ],
)
def test_example_parameters_go_to_muon_or_have_no_weight_decay(
    settings: Settings, name: str, muon: set[str], without_decay: set[str]
) -> None:
    net = on_meta(name)
    roles = names_by_role(net, build_optimizers(net, settings(optimizer="muon", weight_decay=0.3), COMPUTE))
    assert muon <= roles["Muon with decay"]
    assert without_decay <= roles["AdamW without decay"]


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_weight_decay_of_torchvisions_networks_is_that_of_muon(settings: Settings, name: str, optimizer: str) -> None:
    net = on_meta(name)
    muon, other = (
        names_by_role(net, build_optimizers(net, settings(optimizer=each, weight_decay=0.3), COMPUTE))
        for each in ("muon", optimizer)
    )
    kind = {"sgd": "SGD", "adamw": "AdamW"}[optimizer]
    assert other == {
        f"{kind} with decay": muon["Muon with decay"] | muon["AdamW with decay"],
        f"{kind} without decay": muon["AdamW without decay"],
    }


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16"])
@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "muon"])
def test_each_parameter_of_torchvisions_networks_has_exactly_one_optimizer(
    settings: Settings, name: str, optimizer: str
) -> None:
    net = on_meta(name)
    assert same(parameters_of(*build_optimizers(net, settings(optimizer=optimizer), COMPUTE)), list(net.parameters()))


def test_muon_leaves_frozen_weights_alone() -> None:
    weight = nn.Parameter(torch.ones(8, 2))
    muon = Muon([weight], lr=0.1, momentum=0.5, weight_decay=0.2, precision=torch.float32)
    muon.step()
    assert torch.equal(weight, torch.ones(8, 2))
    assert not muon.state


def test_settings_reach_the_optimizers(settings: Settings) -> None:
    def build(**changes: object) -> list[torch.optim.Optimizer]:
        chosen = settings(learning_rate=0.5, momentum=0.7, **changes)
        return build_optimizers(create_model("net", 10, MNIST), chosen, COMPUTE)

    (sgd,) = build(optimizer="sgd")
    assert isinstance(sgd, SGD)
    assert (sgd.defaults["lr"], sgd.defaults["momentum"]) == (0.5, 0.7)
    (adamw,) = build(optimizer="adamw")
    assert isinstance(adamw, AdamW)
    assert (adamw.defaults["lr"], adamw.defaults["betas"]) == (0.5, (0.7, 0.999))
    assert adamw.defaults["fused"] is True
    muon, adamw = build(optimizer="muon")
    assert (muon.defaults["lr"], muon.defaults["momentum"], adamw.defaults["lr"]) == (0.5, 0.7, 0.05)
    assert adamw.defaults["fused"] is True


@pytest.mark.parametrize(("optimizer", "rate"), [("sgd", 0.01), ("adamw", 0.001), ("muon", 0.01)])
def test_training_reduces_the_loss_and_repeats_exactly(
    new_state: Callable[..., TrainState], optimizer: str, rate: float
) -> None:
    changes = {"optimizer": optimizer, "learning_rate": rate, "epochs": 5.0, "batch_size": 8}
    first, second = (train(new_state(images=20, **changes), random_dataset(20)) for _ in range(2))
    assert first == second
    assert first[-1]["train_loss"] < first[0]["train_loss"]


def test_muon_takes_nesterov_steps_of_orthogonalized_updates() -> None:
    """A tall matrix takes larger steps: the square root of rows / columns."""
    weight = nn.Parameter(torch.ones(8, 2))
    muon = Muon([weight], lr=0.1, momentum=0.5, weight_decay=0.2, precision=torch.float32)
    expected, average = weight.detach().clone(), torch.zeros(8, 2)
    for seed in range(3):
        weight.grad = torch.randn(8, 2, generator=torch.Generator().manual_seed(seed))
        average = 0.5 * average + weight.grad
        update = orthogonalize(weight.grad + 0.5 * average)
        expected = (1 - 0.1 * 0.2) * expected - 0.1 * (8 / 2) ** 0.5 * update
        muon.step()
        assert torch.allclose(weight, expected, atol=1e-6)


def test_muon_flattens_convolutions() -> None:
    kernel = nn.Parameter(torch.randn(4, 2, 3, 3))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    for weight in (kernel, matrix):
        weight.grad = torch.ones_like(weight)
        Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.0, precision=torch.float32).step()
    assert torch.equal(kernel.flatten(1), matrix)


@pytest.mark.parametrize("shape", [(64, 288), (288, 64), (50, 50)])
def test_orthogonalize_moves_singular_values_close_to_one(shape: tuple[int, int]) -> None:
    """Muon claims 0.7 to 1.2 after five steps, for wide, tall and square matrices."""
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalize(matrix, steps=5))
    assert values.max() < 1.3
    assert values.median() > 0.6


def test_orthogonalize_equals_newton_schulz_on_the_whole_matrix() -> None:
    matrix = torch.randn(64, 288, generator=torch.Generator().manual_seed(0))
    expected = matrix / matrix.norm()
    for _ in range(3):
        square = expected @ expected.T
        expected = 3.4445 * expected + (-4.7750 * square + 2.0315 * square @ square) @ expected
    assert torch.allclose(orthogonalize(matrix), expected, atol=1e-5)
    assert torch.allclose(orthogonalize(matrix.T), expected.T, atol=1e-5)


def test_orthogonalize_in_bfloat16_is_close_to_float32() -> None:
    matrix = torch.randn(64, 288, generator=torch.Generator().manual_seed(0))
    exact, rough = orthogonalize(matrix), orthogonalize(matrix, torch.bfloat16)
    assert rough.dtype == torch.float32
    assert (rough - exact).norm() < 0.05 * exact.norm()
