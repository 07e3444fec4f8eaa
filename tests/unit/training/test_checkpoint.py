"""Resumed training ends with the same weights and history as uninterrupted training."""

import dataclasses
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import StochasticDepth

from src.data.dataset import Dataset, save_dataset
from src.data.tensor_file import load_tensors
from src.models.small import Dash
from src.params import Params
from src.registry import MODELS, create_model
from src.training import checkpoint, loop
from src.training.checkpoint import Checkpoints, describe_run, run_hash
from src.training.loop import train
from src.training.optimizers import build_optimizers
from src.training.state import HistoryRow, TrainState
from tests.helpers import MNIST, random_dataset

NewState = Callable[..., TrainState]
GRAY = TRAIN_SET, VALIDATION_SET = random_dataset(20), random_dataset(10, seed=1)
COLOR = random_dataset(24, side=32, channels=3), random_dataset(10, seed=1, side=32, channels=3)
FINGERPRINT = {"torch": "2.14", "device": "cpu AVX2", "threads": 1}


def checkpoints_in(folder: Path, every_seconds: float = 1000.0) -> Checkpoints:
    return Checkpoints(folder, "0123456789abcdef", FINGERPRINT, every_seconds)


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.checkpoint"))


def train_and_interrupt(
    state: TrainState, folder: Path, stop: int, monkeypatch: pytest.MonkeyPatch, data: tuple[Dataset, Dataset] = GRAY
) -> None:
    """Train, and send SIGTERM after step `stop`."""
    plain_step = loop.train_step

    def step_and_interrupt(state: TrainState, *batch: torch.Tensor) -> None:
        plain_step(state, *batch)
        if state.step == stop:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", step_and_interrupt)
        with pytest.raises(KeyboardInterrupt, match="the state is saved"):
            train(state, *data, checkpoints_in(folder))


@pytest.mark.parametrize(
    ("network", "optimizer", "momentum"),
    [("dash32", "muon", 0.9), ("net", "sgd", 0.9), ("tiny", "adamw", 0.9), ("dash", "sgd", 0.0)],
)
def test_resumed_training_ends_in_the_same_weights_and_history(
    new_state: NewState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: str, optimizer: str, momentum: float
) -> None:
    """Two and a third epochs of three steps are seven steps. Rows of the history end after steps 3, 5 and 7."""
    changes = {
        "optimizer": optimizer, "momentum": momentum, "learning_rate": 0.01, "batch_size": 8, "epochs": 2.3,
    }  # fmt: skip
    whole = new_state(network, images=20, **changes)
    history = train(whole, TRAIN_SET, VALIDATION_SET)
    assert (whole.step, len(history)) == (7, 3)
    for stop in (1, 3, 4, 5, 6, 7):
        folder = tmp_path / str(stop)
        train_and_interrupt(new_state(network, images=20, **changes), folder, stop, monkeypatch)
        resumed = new_state(network, images=20, **changes)
        assert train(resumed, TRAIN_SET, VALIDATION_SET, checkpoints_in(folder)) == history
        for name, tensor in whole.net.state_dict().items():
            assert torch.equal(resumed.net.state_dict()[name], tensor), (stop, name)


def check_resumed(
    create: Callable[[], TrainState], data: tuple[Dataset, Dataset], stops: tuple[int, ...], folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> TrainState:  # fmt: skip
    """Interrupt a run after each number of steps in `stops`. Compare the resumed run with an uninterrupted one."""
    whole = create()
    history = train(whole, *data)
    for stop in stops:
        train_and_interrupt(create(), folder / str(stop), stop, monkeypatch, data)
        torch.rand(3)  # the state of the global generator does not matter
        resumed = create()
        assert train(resumed, *data, checkpoints_in(folder / str(stop))) == history
        for name, tensor in whole.net.state_dict().items():
            assert torch.equal(resumed.net.state_dict()[name], tensor), (stop, name)
    return whole


@pytest.mark.parametrize("optimizer", ["muon", "adamw", "sgd"])
def test_resumed_training_with_frozen_epochs_ends_in_the_same_weights(
    new_state: NewState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    """Steps 1 to 3 train the head alone, steps 4 to 7 everything."""
    changes = {
        "optimizer": optimizer, "learning_rate": 0.01, "batch_size": 8, "epochs": 2.3, "freeze_epochs": 1,
    }  # fmt: skip

    def create() -> TrainState:
        return new_state("mobilenet_v3_small", COLOR[0], **changes)

    check_resumed(create, COLOR, (2, 3, 5), tmp_path, monkeypatch)


def test_checkpoint_of_a_frozen_epoch_holds_the_optimizer_state_of_the_head_only(
    new_state: NewState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"optimizer": "muon", "batch_size": 8, "epochs": 2.0, "freeze_epochs": 1}
    train_and_interrupt(new_state("net", 20, **changes), tmp_path, 2, monkeypatch)
    (path,) = tmp_path.rglob("*.checkpoint")
    names = {name for name in load_tensors(path)[0] if not name.startswith(("net/", "sums"))}
    assert len(names) == 6  # the head's weight and bias: step and two averages of AdamW
    assert all(name.startswith("1/") for name in names)


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_resumed_training_with_dropout_and_stochastic_depth_ends_in_the_same_weights(
    new_state: NewState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    changes = {
        "optimizer": optimizer, "learning_rate": 0.001, "batch_size": 8, "epochs": 1.3,
    }  # fmt: skip

    def create() -> TrainState:
        return new_state("efficientnet_b0", COLOR[0], **changes)

    whole = check_resumed(create, COLOR, (1, 3), tmp_path, monkeypatch)
    random = {type(layer) for layer in whole.net.modules() if getattr(layer, "p", 0) > 0}
    assert random == {nn.Dropout, StochasticDepth}


class DashWithDropout(Dash):
    """Dash with a random layer."""

    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(super().forward(x), 0.3, self.training)


def test_resumed_training_with_dropout_ends_in_the_same_weights(
    new_state: NewState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropout = dataclasses.replace(MODELS["dash"], factory=f"{__name__}:DashWithDropout")
    monkeypatch.setitem(MODELS, "dash", dropout)
    changes = {"batch_size": 8, "epochs": 2.0}
    whole = new_state("dash", images=20, **changes)
    train(whole, TRAIN_SET, VALIDATION_SET)
    train_and_interrupt(new_state("dash", images=20, **changes), tmp_path, 4, monkeypatch)
    torch.rand(3)  # the state of the global generator does not matter
    resumed = new_state("dash", images=20, **changes)
    train(resumed, TRAIN_SET, VALIDATION_SET, checkpoints_in(tmp_path))
    assert torch.equal(resumed.net.head.weight, whole.net.head.weight)


def test_training_interrupted_in_its_last_step_is_validated_before_it_is_saved(
    new_state: NewState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"batch_size": 8, "epochs": 1.0}
    train_and_interrupt(new_state("dash", images=20, **changes), tmp_path, 3, monkeypatch)
    resumed = new_state("dash", images=20, **changes)
    monkeypatch.setattr(loop, "train_step", lambda *_: pytest.fail("all steps are done"))
    (metrics,) = train(resumed, TRAIN_SET, VALIDATION_SET, checkpoints_in(tmp_path))
    assert metrics["epoch"] == 1
    assert metrics.keys() >= {"train_loss", "validation_loss"}


def test_resuming_a_finished_training_repeats_no_step(new_state: NewState, tmp_path: Path) -> None:
    """The model could not be written, because the disk was full: no step is repeated."""
    changes = {"batch_size": 8, "epochs": 1.0}
    first, second = (new_state("dash", images=20, **changes) for _ in range(2))
    history = train(first, TRAIN_SET, VALIDATION_SET, checkpoints_in(tmp_path))
    assert train(second, TRAIN_SET, VALIDATION_SET, checkpoints_in(tmp_path)) == history
    assert (second.step, second.seconds) == (3, first.seconds)


@pytest.fixture
def state(new_state: NewState) -> TrainState:
    """A new training state of `tiny`, whose checkpoint fits a small disk twice."""
    return new_state("tiny", images=3200, optimizer="sgd", momentum=0.0)


def metrics(epoch: int) -> list[HistoryRow]:
    return [{"epoch": epoch, "train_loss": 1 / 3}]


def test_restore_sets_step_seconds_sums_and_weights(state: TrainState, new_state: NewState, tmp_path: Path) -> None:
    state.step, state.seconds, state.sums = 5, 1.5, torch.tensor([0.1, 2, 3], dtype=torch.float64)
    checkpoints_in(tmp_path).save(state, metrics(1))
    other = new_state("tiny", images=3200, optimizer="sgd", momentum=0.0)
    torch.nn.init.zeros_(other.net.head.weight)
    assert checkpoints_in(tmp_path).restore(other) == [{"epoch": 1, "train_loss": 1 / 3}]
    assert (other.step, other.seconds, other.sums.tolist()) == (5, 1.5, [0.1, 2, 3])
    assert torch.equal(other.net.head.weight, state.net.head.weight)


def test_restored_optimizer_state_is_on_the_device_of_the_weights(new_state: NewState, tmp_path: Path) -> None:
    """Fused AdamW reads its step counter on the GPU; the device `meta` stands for one."""
    state = new_state("dash", images=64, batch_size=32, optimizer="adamw")
    train(state, random_dataset(64), None, checkpoints_in(tmp_path))
    net = create_model("dash", 10, MNIST).to("meta")
    other = dataclasses.replace(state, net=net, optimizers=build_optimizers(net, state.settings, state.compute))
    checkpoints_in(tmp_path).restore(other)
    values = [value for values in other.optimizers[0].state.values() for value in values.values()]
    assert len(values) == 3 * len(list(net.parameters()))
    assert {value.device.type for value in values} == {"meta"}


def test_restore_reports_where_it_resumes(
    state: TrainState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state.step = 5
    saved = checkpoints_in(tmp_path)
    saved.save(state, [])
    saved.restore(state)
    assert capsys.readouterr().out == f"resuming after step 5 of 100 from {saved.folder}\n"


def test_restore_without_a_checkpoint_changes_nothing(
    state: TrainState, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert checkpoints_in(tmp_path).restore(state) == []
    assert (state.step, capsys.readouterr()) == (0, ("", ""))


def test_two_checkpoints_are_kept(state: TrainState, tmp_path: Path) -> None:
    for state.step in (1, 2, 3, 10):
        checkpoints_in(tmp_path).save(state, [])
    folder = "0123456789abcdef-2.14-cpu-AVX2-1"
    assert files_in(tmp_path) == [f"{folder}/000000003.checkpoint", f"{folder}/000000010.checkpoint"]


@pytest.mark.parametrize("place", [0, 40, 500, 0.5, -1])
def test_damaged_checkpoint_is_reported_and_the_previous_one_is_used(
    state: TrainState, tmp_path: Path, capsys: pytest.CaptureFixture[str], place: float
) -> None:
    saved = checkpoints_in(tmp_path)
    for state.step in (2, 3):
        saved.save(state, metrics(state.step))
    latest = saved.folder / "000000003.checkpoint"
    content = bytearray(latest.read_bytes())
    content[len(content) // 2 if place == 0.5 else place] ^= 1
    latest.write_bytes(content)
    assert saved.restore(state) == metrics(2)
    assert state.step == 2
    assert f"warning: {latest} is damaged (" in capsys.readouterr().err
    assert not latest.exists()


def test_training_starts_again_if_all_checkpoints_are_damaged(state: TrainState, tmp_path: Path) -> None:
    saved = checkpoints_in(tmp_path)
    for state.step in (2, 3):
        saved.save(state, metrics(state.step))
    for path in saved.folder.iterdir():
        path.write_bytes(b"short")
    state.step = 0
    assert (saved.restore(state), state.step) == ([], 0)
    saved.save(state, metrics(0))  # damaged files, which would count as later ones, are gone
    assert saved.restore(state) == metrics(0)


def test_full_disk_keeps_earlier_checkpoints(state: TrainState, small_disk: Path) -> None:
    saved = checkpoints_in(small_disk)
    with pytest.raises(OSError, match="No space left on device"):  # noqa: PT012  # two fit
        for state.step in (1, 2, 3):
            saved.save(state, metrics(state.step))
    assert state.step == 3
    assert saved.restore(state) == metrics(2)
    assert len(files_in(small_disk)) == 2


def test_checkpoint_is_due_after_some_seconds(
    state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
    saved = checkpoints_in(tmp_path, every_seconds=10)
    now = 109.0
    assert not saved.is_due()
    now = 111.0
    assert saved.is_due()
    saved.save(state, [])
    assert not saved.is_due()


def test_training_saves_when_a_checkpoint_is_due(new_state: NewState, tmp_path: Path) -> None:
    steps = []

    class Recorder(Checkpoints):
        def save(self, state: TrainState, history: list[HistoryRow]) -> None:
            steps.append((state.step, len(history)))

    changes = {"batch_size": 8, "epochs": 2.0}
    for every_seconds in (0.0, 1000.0):
        saved = Recorder(tmp_path, "abc", FINGERPRINT, every_seconds)
        train(new_state("dash", images=20, **changes), TRAIN_SET, None, saved)
    always = [(1, 0), (2, 0), (3, 1), (4, 1), (5, 1), (6, 2)]
    assert steps == [*always, (3, 1), (6, 2)]


def test_remove_leaves_the_checkpoints_of_other_runs(state: TrainState, tmp_path: Path) -> None:
    root = tmp_path / "checkpoints"
    first, second = checkpoints_in(root), Checkpoints(root, "fedcba9876543210", FINGERPRINT, 10)
    first.save(state, [])
    second.save(state, [])
    first.remove()
    assert files_in(root) == ["fedcba9876543210-2.14-cpu-AVX2-1/000000000.checkpoint"]
    second.remove()
    assert files_in(root) == []
    second.remove()


def test_run_with_the_same_hash_waits(tmp_path: Path) -> None:
    """Two experiments that differ only in `evaluate` train the same."""
    with checkpoints_in(tmp_path).exclusive(), pytest.raises(Timeout):
        FileLock(checkpoints_in(tmp_path).lock).acquire(timeout=0)


@pytest.mark.parametrize("change", [{"threads": 2}, {"torch": "2.15"}, {"device": "cpu AVX512"}])
def test_checkpoint_with_another_fingerprint_is_ignored(
    state: TrainState, tmp_path: Path, change: dict[str, str | int]
) -> None:
    checkpoints_in(tmp_path).save(state, metrics(1))
    assert Checkpoints(tmp_path, "0123456789abcdef", FINGERPRINT | change, 10).restore(state) == []


def test_run_hash_depends_on_parameters_data_and_code(params: Params, tmp_path: Path) -> None:
    data = tmp_path / "train.safetensors"
    save_dataset(data, random_dataset(5))

    def hash_with(model: str = "net", **changes: object) -> str:
        update = {
            "train": params.train.model_copy(update=changes),
            "model": params.model.model_copy(update={"name": model}),
        }
        return run_hash(describe_run(params.model_copy(update=update), [data]))

    first = hash_with()
    assert len(first) == 16
    assert hash_with() == hash_with(checkpoint_seconds=1.0) == first
    others = {hash_with(seed=1), hash_with(epochs=9.0), hash_with(model="tiny")}
    save_dataset(data, random_dataset(5, seed=1))
    assert len({first, *others, hash_with()}) == 5


def test_run_hash_includes_the_code(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "loop.py"
    module.write_text("a = 1")
    monkeypatch.setattr(loop, "__file__", str(module))
    run = describe_run(params, [])
    first = run_hash(run)
    module.write_text("a = 2")
    assert run_hash(run) != first
