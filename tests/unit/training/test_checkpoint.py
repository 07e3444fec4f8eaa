"""Resumed training ends with the same weights and history as uninterrupted training."""

import copy
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from filelock import FileLock, Timeout
from torch import nn
from torchvision.ops import StochasticDepth

from src.data.dataset import save_split
from src.models.inference import Classifier
from src.models.registry import NETWORKS, Shape, create_model
from src.training import checkpoint, loop
from src.training.checkpoint import Checkpoint, describe_run, run_hash
from src.training.loop import train
from src.training.optim import build_optimizers
from src.training.state import Metrics, TrainState
from tests.helpers import MNIST, random_dataset

NewState = Callable[..., TrainState]
ENVIRONMENT = {"torch": "2.14", "device": "cpu AVX2", "threads": 1}
NAME = "0123456789abcde.checkpoint"


def checkpoint_in(folder: Path) -> Checkpoint:
    return Checkpoint(folder, "0123456789abcde")


def with_random_layers(num_classes: int, shape: Shape) -> nn.Module:
    layers = nn.Conv2d(shape[0], 4, 3), StochasticDepth(0.5, "row"), nn.Flatten(), nn.Dropout(0.3)
    return nn.Sequential(*layers, nn.Linear(4 * 26**2, num_classes))


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.checkpoint"))


@pytest.mark.parametrize(
    ("network", "optimizer", "momentum"),
    [("dash32", "muon", 0.9), ("dash", "adamw", 0.9), ("net", "sgd", 0.9), ("with_random_layers", "sgd", 0.0)],
)
def test_resumed_training_ends_in_the_same_weights_and_history(
    new_state: NewState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, optimizer: str, momentum: float
) -> None:
    """Two and a third epochs of three steps are seven steps. Evaluations follow steps 3, 5 and 7."""
    monkeypatch.setitem(NETWORKS, "with_random_layers", with_random_layers)
    data, validation_set = random_dataset(20), random_dataset(20, seed=1)

    def create() -> TrainState:
        torch.rand(3)  # the state of the global generator does not matter
        changes = {"optimizer": optimizer, "momentum": momentum, "learning_rate": 0.01, "batch_size": 8, "epochs": 2.3}
        return new_state(network, data, {"rotation": 9.0, "erasing_prob": 0.5}, **changes)

    def step_and_interrupt(state: TrainState, *batch: torch.Tensor) -> None:
        plain_step(state, *batch)
        if state.step == stop:
            signal.raise_signal(signal.SIGTERM)

    whole, plain_step = create(), loop.train_step
    history = train(whole, data, validation_set)
    assert (whole.step, len(history)) == (7, 3)
    for stop in (1, 3, 4, 7):
        with monkeypatch.context() as patch:
            patch.setattr(loop, "train_step", step_and_interrupt)
            with pytest.raises(KeyboardInterrupt, match="the state is saved"):
                train(create(), data, validation_set, checkpoint_in(tmp_path / str(stop)))
        resumed = create()
        assert train(resumed, data, validation_set, checkpoint_in(tmp_path / str(stop))) == history
        for name, tensor in whole.classifier.net.state_dict().items():
            assert torch.equal(resumed.classifier.net.state_dict()[name], tensor), (stop, name)
        assert all(map(torch.equal, resumed.margins.mean(), whole.margins.mean()))


def test_restored_optimizer_state_is_on_the_device_of_the_weights(new_state: NewState, tmp_path: Path) -> None:
    """Fused AdamW reads its step counter on the GPU; the device `meta` stands for one."""
    state = new_state("dash", images=64, optimizer="adamw")
    train(state, random_dataset(64), None, checkpoint_in(tmp_path))
    net = create_model("dash", 10, MNIST).to("meta")
    other = copy.copy(state)
    other.classifier = Classifier(net, state.classifier.normalization, test_time_augmentation="none")
    other.optimizers = build_optimizers(net, state.settings, torch.float32)
    checkpoint_in(tmp_path).restore(other)
    values = [value for values in other.optimizers[0].state.values() for value in values.values()]
    assert len(values) == 3 * len(list(net.parameters()))
    assert {value.device.type for value in values} == {"meta"}


@pytest.fixture
def state(new_state: NewState) -> TrainState:
    """A new training state of `dash`, whose checkpoint fits a small disk once."""
    return new_state("dash", images=320, epochs=10.0, optimizer="sgd", momentum=0.0)


def history_of(epoch: int) -> list[Metrics]:
    return [{"epoch": epoch, "train_loss": 1 / 3}]


def test_last_save_is_restored(state: TrainState, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for state.step in (1, 2, 10):
        checkpoint_in(tmp_path).save(state, history_of(state.step))
    assert files_in(tmp_path) == [NAME]
    state.step = 0
    assert checkpoint_in(tmp_path).restore(state) == history_of(10)
    assert state.step == 10
    assert capsys.readouterr().out == f"resuming after step 10 of 100 from {tmp_path / NAME}\n"


@pytest.mark.parametrize("place", [0, 500, -1])
def test_training_starts_again_if_the_checkpoint_is_damaged(
    state: TrainState, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: int
) -> None:
    saved = checkpoint_in(tmp_path)
    saved.save(state, history_of(3))
    content = bytearray(saved.path.read_bytes())
    content[place] ^= 1
    saved.path.write_bytes(content)
    assert (saved.restore(state), state.step) == ([], 0)
    assert f"warning: {saved.path} is damaged (" in capsys.readouterr().err


def test_full_disk_keeps_the_previous_checkpoint(state: TrainState, small_disk: Path) -> None:
    saved = checkpoint_in(small_disk)
    with pytest.raises(OSError, match="No space left on device"):  # noqa: PT012  # one fits
        for state.step in (1, 2):
            saved.save(state, history_of(state.step))
    assert state.step == 2
    assert saved.restore(state) == history_of(1)
    assert len(files_in(small_disk)) == 1


def test_checkpoint_is_due_every_10_seconds(state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
    saved = checkpoint_in(tmp_path)
    now = 109.0
    assert not saved.is_due()
    now = 111.0
    assert saved.is_due()
    saved.save(state, [])
    assert not saved.is_due()


def test_training_saves_after_each_evaluation_and_when_a_checkpoint_is_due(
    new_state: NewState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    monkeypatch.setattr(Checkpoint, "save", lambda _, state, history: steps.append((state.step, len(history))))
    for seconds in (10, -1):
        monkeypatch.setattr(checkpoint, "SECONDS", seconds)
        train(new_state("dash", images=75, epochs=2.0), random_dataset(75), None, checkpoint_in(tmp_path))
    assert steps == [(3, 1), (6, 2), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2)]


def test_remove_leaves_the_checkpoints_of_other_runs(state: TrainState, tmp_path: Path) -> None:
    first, second = checkpoint_in(tmp_path), Checkpoint(tmp_path, "fedcba987654321")
    first.save(state, [])
    second.save(state, [])
    first.remove()
    assert files_in(tmp_path) == ["fedcba987654321.checkpoint"]


def test_run_with_the_same_hash_waits(tmp_path: Path) -> None:
    """Two experiments that differ only in `inspect` train the same."""
    with checkpoint_in(tmp_path).exclusive(), pytest.raises(Timeout):
        FileLock(checkpoint_in(tmp_path).lock).acquire(timeout=0)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    save_split(tmp_path, "train", random_dataset(5))
    return tmp_path


def test_run_hash_depends_on_parameters_data_code_and_environment(
    params: SimpleNamespace, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = prepared / "loop.py"
    module.write_text("a = 1")
    monkeypatch.setattr(loop, "__file__", str(module))

    def hash_with(threads: int = 1, **changes: object) -> str:
        run = describe_run({"train": params.train.model_copy(update=changes)}, prepared)
        return run_hash(run, ENVIRONMENT | {"threads": threads})

    hashes = {hash_with(seed=1), hash_with(epochs=9.0), hash_with(threads=2)}
    for change in (
        lambda: save_split(prepared, "train", random_dataset(5, seed=1)),
        lambda: module.write_text("a = 2"),
    ):
        assert hash_with() == hash_with()
        hashes.add(hash_with())
        change()
    assert len(hashes | {hash_with()}) == 6
    assert {len(value) for value in hashes} == {15}


def test_parameters_that_are_off_are_not_part_of_the_run(params: SimpleNamespace, prepared: Path) -> None:
    """A new parameter that is off changes no byte of the model."""
    sections = {
        "model": params.model.model_copy(update={"name": "net", "pretrained": False}),
        "augmentation": params.augmentation.model_copy(
            update={name: 0.5 * (name == "flip_prob") for name in type(params.augmentation).model_fields}
        ),
    }
    run = describe_run(sections, prepared)
    assert len(run.pop("data")) == 64
    assert run == {"model": {"name": "net"}, "augmentation": {"flip_prob": 0.5}}
