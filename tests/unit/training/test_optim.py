"""Learning rate, optimizers, and Muon against its definition."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from src.models.registry import create_model
from src.params.train import TrainParams
from src.training.loop import train
from src.training.optim import Muon, build_optimizers, lr_factor, orthogonalize, set_lr
from src.training.state import TrainState
from tests.helpers import MNIST, random_dataset

Settings = Callable[..., TrainParams]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule": "constant", "warmup": 0.0}, [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]),
        ({"schedule": "constant", "warmup": 0.4}, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1, 1, 1]),
        ({"schedule": "linear", "warmup": 0.0}, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ({"schedule": "linear", "warmup": 0.2}, [0.5, 1, 1, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        (
            {"schedule": "step", "warmup": 0.0, "step_size": 2, "gamma": 0.1},
            [1, 1, 1, 1, 0.1, 0.1, 0.1, 0.1, 0.01, 0.01],
        ),
    ],
)
def test_learning_rate_factors_over_ten_steps_of_five_epochs(
    settings: Settings, changes: dict[str, object], expected: list[float]
) -> None:
    chosen = settings(**changes)
    assert [lr_factor(step, 10, 2, chosen) for step in range(10)] == pytest.approx(expected)


def test_settings_reach_the_optimizers(settings: Settings) -> None:
    def build(optimizer: str) -> tuple[list[Optimizer], list[float]]:
        chosen = settings(learning_rate=0.5, momentum=0.7, optimizer=optimizer)
        optimizers = build_optimizers(create_model("net", 10, MNIST), chosen, torch.float32)
        set_lr(optimizers, 0.1)
        return optimizers, [group["lr"] for built in optimizers for group in built.param_groups]

    (sgd,), lrs = build("sgd")
    assert (type(sgd), sgd.defaults["momentum"], lrs) == (SGD, 0.7, [0.05, 0.05])
    (adamw,), lrs = build("adamw")
    assert (type(adamw), adamw.defaults["betas"], lrs) == (AdamW, (0.7, 0.999), [0.05, 0.05])
    (muon, adamw), lrs = build("muon")
    assert (type(muon), muon.defaults["momentum"]) == (Muon, 0.7)
    assert (type(adamw), adamw.defaults["betas"], lrs) == (AdamW, (0.9, 0.999), pytest.approx([0.05, 0.005, 0.005]))


def build_on_meta(name: str, settings: TrainParams) -> tuple[nn.Module, dict[str, set[str]]]:
    """Return a network, and the names of its parameters by optimizer and by whether they decay."""
    with torch.device("meta"):
        net = create_model(name, 10, (1, 32, 32))
    names = {parameter: name for name, parameter in net.named_parameters()}
    roles: dict[str, set[str]] = {}
    for optimizer in build_optimizers(net, settings, torch.float32):
        for group in optimizer.param_groups:
            role = f"{type(optimizer).__name__} {'with' if group['weight_decay'] else 'without'} decay"
            roles.setdefault(role, set()).update(names.pop(parameter) for parameter in group["params"])
    assert not names, "not trained"
    return net, roles


@pytest.mark.parametrize(
    ("name", "head", "without_decay"),
    [
        ("dash", "head", {"2.weight", "2.bias", "head.bias"}),
        ("squeezenet1_1", "classifier.1", {"classifier.1.bias"}),
        ("vit_b_16", "heads.head", {"class_token", "encoder.pos_embedding", "encoder.ln.weight"}),
        ("convnext_tiny", "classifier.2", {"features.1.0.layer_scale", "features.0.1.weight"}),
        ("swin_t", "head", {"features.1.0.attn.relative_position_bias_table", "features.1.0.norm1.weight"}),
    ],
)
def test_muon_takes_hidden_weights_and_biases_norms_and_embeddings_do_not_decay(
    settings: Settings, name: str, head: str, without_decay: set[str]
) -> None:
    net, roles = build_on_meta(name, settings(optimizer="muon", weight_decay=0.3))
    hidden = {
        f"{layer}.{weight}"
        for layer, module in net.named_modules()
        for weight, kind in {"weight": nn.Conv2d | nn.Linear, "in_proj_weight": nn.MultiheadAttention}.items()
        if isinstance(module, kind) and layer != head
    }
    assert roles["Muon with decay"] == hidden
    assert roles["AdamW with decay"] == {f"{head}.weight"}
    assert without_decay <= roles["AdamW without decay"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_other_optimizers_decay_the_same_weights_as_muon(settings: Settings, optimizer: str) -> None:
    _, muon = build_on_meta("vit_b_16", settings(optimizer="muon", weight_decay=0.3))
    _, other = build_on_meta("vit_b_16", settings(optimizer=optimizer, weight_decay=0.3))
    decaying, rest = other.values()
    assert decaying == muon["Muon with decay"] | muon["AdamW with decay"]
    assert rest == muon["AdamW without decay"]


def test_network_without_hidden_weights_is_trained_without_muon(settings: Settings) -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    assert [type(built) for built in build_optimizers(net, settings(optimizer="muon"), torch.float32)] == [AdamW]


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.01), ("adamw", 0.001), ("muon", 0.01)])
def test_training_reduces_the_loss(new_state: Callable[..., TrainState], optimizer: str, lr: float) -> None:
    state = new_state(images=20, optimizer=optimizer, learning_rate=lr, epochs=5.0, batch_size=8)
    first, *_, last = train(state, random_dataset(20))
    assert last["train_loss"] < first["train_loss"]


def muon_of(*weights: nn.Parameter) -> Muon:
    return Muon([{"params": weights, "lr": 0.1, "weight_decay": 0.2}], momentum=0.5, precision=torch.float32)


@pytest.mark.parametrize(("shape", "factor"), [((8, 1, 2, 1), 2.0), ((4, 2, 3, 3), 1.0)])
def test_muon_takes_nesterov_steps_of_orthogonalized_updates(shape: tuple[int, ...], factor: float) -> None:
    """A kernel is a matrix with a row per output. A tall one takes larger steps: the square root of rows / columns."""
    weight = nn.Parameter(torch.ones(shape))
    muon = muon_of(weight)
    expected, average = weight.detach().flatten(1), torch.zeros(shape).flatten(1)
    for seed in range(3):
        weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        average = 0.5 * average + weight.grad.flatten(1)
        update = orthogonalize(weight.grad.flatten(1) + 0.5 * average)
        expected = (1 - 0.1 * 0.2) * expected - 0.1 * factor * update
        muon.step()
        assert torch.allclose(weight.flatten(1), expected, atol=1e-6)


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
    rough = orthogonalize(matrix, torch.bfloat16)
    assert rough.dtype == torch.float32
    assert (rough - expected).norm() < 0.05 * expected.norm()
