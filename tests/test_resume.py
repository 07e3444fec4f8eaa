"""Training that is interrupted, by real signals and a full disk, ends in the bytes of one that never was."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest
import torch
import yaml

from src.models.net import NETWORKS
from src.params import Params
from src.training.checkpoint import load_checkpoint, remove_checkpoints, result_key, save_checkpoint
from src.training.loop import State, fit, start
from tests.conftest import ROOT, Stage, environment, new_clone, outputs, pipeline, resize, run
from tests.test_training import CPU, dataset, settings

OUTPUTS = ("data/model/model.safetensors", "metrics/history.csv", "metrics/train.json")
STEPS = 20
COMMANDS = yaml.safe_load(pipeline())["stages"]


def new_state(params: Params, network: str, **changes: object) -> State:
    torch.manual_seed(0)
    chosen = settings(params, **changes)
    return start(NETWORKS[network](10), chosen, CPU, torch.float32)


@pytest.mark.parametrize(
    ("network", "optimizer", "batch_norm", "momentum"),
    [("net", "muon", True, 0.9), ("net", "sgd", False, 0.9), ("tiny", "adamw", False, 0.9), ("dash", "sgd", False, 0)],
)
def test_after_any_step(
    params: Params, tmp_path: Path, network: str, optimizer: str, batch_norm: bool, momentum: float
) -> None:
    """Saved after some of the seven steps of two and a third epochs, another process's objects end the same way."""
    changes = {
        "optimizer": optimizer, "batch_norm": batch_norm, "momentum": momentum, "learning_rate": 0.01,
        "epochs": 2.3, "low_resolution": 0.5 if network == "net" else 0.0, "hardest": 0.5,
    }  # fmt: skip
    chosen, data = settings(params, **changes), dataset(75)
    whole = new_state(params, network, **changes)
    records = [record for record in fit(whole, data, chosen, CPU, torch.float32) if record]
    assert (whole.step, len(records)) == (7, 3)
    for stop in (1, 3, 4, 6, 7):
        before, after = new_state(params, network, **changes), new_state(params, network, **changes)
        first = [record for record in islice(fit(before, data, chosen, CPU, torch.float32), stop) if record]
        save_checkpoint(tmp_path, before, [{"records": len(first)}])
        assert load_checkpoint(tmp_path, after) == [{"records": len(first)}]
        rest = [record for record in fit(after, data, chosen, CPU, torch.float32) if record]
        assert [*first, *rest] == records
        for name, tensor in whole.net.state_dict().items():
            assert torch.equal(after.net.state_dict()[name], tensor), (stop, name)
        remove_checkpoints(tmp_path)


def test_two_are_kept_and_a_damaged_one_is_passed_over(
    params: Params, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bit flipped anywhere in the newest: a warning, and the one before serves; both: from the start."""
    state = new_state(params, "net")
    for step in (1, 2, 3):
        state.step = step
        save_checkpoint(tmp_path, state, [{"epoch": step}])
    files = sorted(tmp_path.iterdir())
    assert [path.name for path in files] == ["000000002.checkpoint", "000000003.checkpoint"]
    whole = files[1].read_bytes()
    for position in (0, 40, 500, len(whole) // 2, len(whole) - 1):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        files[1].write_bytes(damaged)
        assert load_checkpoint(tmp_path, new_state(params, "net")) == [{"epoch": 2}]
        assert "000000003.checkpoint is damaged" in capsys.readouterr().err
    for path in files:
        path.write_bytes(b"short")
    fresh = new_state(params, "net")
    assert (load_checkpoint(tmp_path, fresh), fresh.step) == ([], 0)
    save_checkpoint(tmp_path, fresh, [{"epoch": 0}])
    assert load_checkpoint(tmp_path, fresh) == [{"epoch": 0}]


def test_the_key_is_all_that_determines_the_result(params: Params, tmp_path: Path) -> None:
    """Parameters, data and machine change it; how often a checkpoint is written does not."""
    data = tmp_path / "data"
    data.write_bytes(b"a")

    def key(facts: dict[str, str | int] | None = None, **changes: object) -> str:
        changed = params.model_copy(update={"train": params.train.model_copy(update=changes)})
        return result_key(changed, [data], facts or {"threads": 2})

    first = key()
    assert key() == key(checkpoint_seconds=1.0) == first
    others = {key(seed=1), key(epochs=9.0), key({"threads": 1})}
    data.write_bytes(b"b")
    assert len({first, *others, key()}) == 5


@pytest.fixture
def prepared(tiny: Path, stage: Stage) -> Path:
    """The folder `tiny` after `prepare`, set to 20 steps with a checkpoint after each."""
    stage("prepare", check=True)
    params = yaml.safe_load((tiny / "params.yaml").read_text())
    params["train"] |= {"epochs": STEPS / 5, "checkpoint_seconds": 0, "learning_rate": 0.01}
    (tiny / "params.yaml").write_text(yaml.safe_dump(params))
    return tiny


def hear_everything() -> None:
    """A shell starts what it puts in the background deaf to Ctrl-C, and that is inherited."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


Begin = Callable[[Path, list[str]], subprocess.Popen[str]]


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Start a process in a group of its own, as a terminal does; what is left of it is killed after the test."""
    processes = []

    def start(folder: Path, command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command, cwd=folder, env=environment(PYTHONPATH=str(ROOT) if command[0] == "python" else ""),
            start_new_session=True, preexec_fn=hear_everything,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        processes.append(process)
        return process

    yield start
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdout and not process.stdout.closed:
            process.communicate()


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Its exit status and all that it said, and those it left behind: they share its stdout."""
    said, _ = process.communicate()
    return process.returncode, said


TRAIN = COMMANDS["train"]["cmd"].split()
REPRO = ["dvc", "repro", "train"]


def checkpoints(folder: Path) -> list[Path]:
    return sorted((folder / "data/checkpoints").glob("*/*.checkpoint"))


def parts(folder: Path) -> list[Path]:
    """Checkpoints that are just being written."""
    return list((folder / "data/checkpoints").glob("*/.*.part"))


def wait_until(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.0005)


def contents(folder: Path) -> list[bytes]:
    return [(folder / path).read_bytes() for path in OUTPUTS]


def kill_and_compare(prepared: Path, begin: Begin, trials: int) -> str:
    """Kill -9 `trials` trainings, a quarter of them while they write a checkpoint; let each be ended by another.

    Some are quicker with their checkpoint than the signal, so that more may be needed.
    """
    assert end(begin(prepared, TRAIN))[0] == 0
    expected, moments = contents(prepared), random.Random(trials)
    killed, same, writing = 0, 0, 0
    while killed < trials or writing < trials // 4:
        process, step = begin(prepared, TRAIN), moments.randrange(1, STEPS // 2)
        wait_until(lambda: any(path.name >= f"{step:09}" for path in checkpoints(prepared)), process)  # noqa: B023
        if killed % 4 and killed < trials:
            time.sleep(moments.uniform(0, 0.2))
        else:
            wait_until(lambda: parts(prepared), process)
        os.killpg(process.pid, signal.SIGKILL)
        assert end(process)[0] == -signal.SIGKILL
        writing += bool(parts(prepared))
        resumable = bool(checkpoints(prepared))
        for path in OUTPUTS:  # as dvc does before it runs the stage again
            (prepared / path).unlink(missing_ok=True)
        status, said = end(begin(prepared, TRAIN))
        assert status == 0, said
        assert ("going on after step" in said) == resumable
        same += contents(prepared) == expected
        assert not (prepared / "data/checkpoints").exists()
        killed += 1
        assert killed < 4 * trials
    assert same == killed
    return f"{same} of {killed} killed trainings ended in the same bytes, {writing} killed while writing a checkpoint"


@pytest.mark.parametrize("trials", [4, pytest.param(20, marks=pytest.mark.long)])
def test_killed(prepared: Path, begin: Begin, trials: int, count: Callable[[str], None]) -> None:
    """Kill -9 at random moments, also while a checkpoint is written: the same bytes, and nothing left behind."""
    count(kill_and_compare(prepared, begin, trials))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests that `dvc repro train` arrives at when nothing interrupts it."""
    folder = slow_clone(tmp_path_factory.mktemp("undisturbed"))
    run(REPRO, folder)
    return outputs(folder)


def slow_clone(folder: Path) -> Path:
    """A clone with 20 steps to train, and a checkpoint after each."""
    new_clone(folder)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["train"] |= {"epochs": STEPS / 5, "checkpoint_seconds": 0, "learning_rate": 0.01}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    return folder


@pytest.mark.parametrize(
    ("trials", "number", "to_group"),
    [
        pytest.param(1, signal.SIGTERM, False, id="kill dvc"),
        pytest.param(1, signal.SIGINT, True, id="Ctrl-C"),
        pytest.param(1, signal.SIGHUP, True, id="closed terminal"),
        pytest.param(5, signal.SIGTERM, False, id="kill dvc, often", marks=pytest.mark.long),
        pytest.param(5, signal.SIGINT, True, id="Ctrl-C, often", marks=pytest.mark.long),
    ],
)
def test_interrupted_dvc(
    tmp_path: Path,
    expected: dict[str, str],
    begin: Begin,
    count: Callable[[str], None],
    trials: int,
    number: signal.Signals,
    to_group: bool,
) -> None:
    """The state is saved, the exit status is not 0, nothing is recorded, and the next repro ends in the same bytes."""
    moments = random.Random(number)
    for trial in range(trials):
        folder = slow_clone(tmp_path / str(trial))
        process = begin(folder, REPRO)
        wait_until(lambda: checkpoints(folder), process)  # noqa: B023
        time.sleep(moments.uniform(0, 0.2))
        (os.killpg if to_group else os.kill)(process.pid, number)
        status, said = end(process)
        assert status != 0
        assert "interrupted: the state is saved" in said
        assert not (folder / OUTPUTS[0]).exists()
        assert "train" not in yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
        assert "going on after step" in run(REPRO, folder).stdout
        assert outputs(folder) == expected
    whom = "dvc and its stage" if to_group else "dvc alone"
    count(f"{trials} of {trials} times {number.name} to {whom}: the state is saved, and the bytes are the same")


@pytest.mark.parametrize("shell", ["bash", "sh"])  # bash becomes the stage, Debian's sh stays between
@pytest.mark.parametrize("trials", [1, pytest.param(10, marks=pytest.mark.long)])
def test_the_orphan_of_a_killed_dvc(
    tmp_path: Path,
    expected: dict[str, str],
    begin: Begin,
    count: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    trials: int,
    shell: str,
) -> None:
    """Kill -9 leaves the stage alive: it stops by itself, the next repro waits for that, and nobody writes after it."""
    monkeypatch.setenv("SHELL", f"/bin/{shell}")  # as dvc reads it
    moments = random.Random(9)
    for trial in range(trials):
        folder = slow_clone(tmp_path / str(trial))
        process = begin(folder, REPRO)
        wait_until(lambda: checkpoints(folder), process)  # noqa: B023
        time.sleep(moments.uniform(0, 0.2))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert "going on after step" in run(REPRO, folder).stdout
        assert outputs(folder) == expected
        status, said = end(process)
        assert status == -signal.SIGKILL
        assert "interrupted: the state is saved" in said
        assert "up to date" in run(["dvc", "status", "train"], folder).stdout
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    count(f"{trials} of {trials} orphans of dvc, killed under {shell}, ended by themselves; the next bytes stayed")


def test_two_at_once(prepared: Path, begin: Begin) -> None:
    """The second training waits for the first, though that is stopped, and both end in the same bytes."""
    first = begin(prepared, TRAIN)
    wait_until(lambda: checkpoints(prepared), first)
    first.send_signal(signal.SIGSTOP)
    second = begin(prepared, TRAIN)
    assert second.stdout
    assert f"waiting for process {first.pid}" in second.stdout.readline()
    second.send_signal(signal.SIGSTOP)  # or it would write anew what is read below
    first.send_signal(signal.SIGCONT)
    assert end(first)[0] == 0
    expected = contents(prepared)
    second.send_signal(signal.SIGCONT)
    assert end(second)[0] == 0
    assert contents(prepared) == expected


def test_two_repros_at_once(tmp_path: Path, begin: Begin, expected: dict[str, str]) -> None:
    """DVC refuses the second or it waits; what the first has done stays whole."""
    folder = slow_clone(tmp_path)
    first = begin(folder, REPRO)
    wait_until(lambda: checkpoints(folder), first)
    status, said = end(begin(folder, REPRO))
    assert end(first)[0] == 0
    assert status == 0 or "is busy" in said, said
    assert outputs(folder) == expected


@pytest.mark.parametrize(("small", "size"), [("data/checkpoints", "12m"), ("data/model", "64k"), ("metrics", "4k")])
def test_full_disk(prepared: Path, begin: Begin, small_disk: Path, small: str, size: str) -> None:
    """No room for a checkpoint, the model or the metrics: it says so, and with room again it ends in the same bytes."""
    assert end(begin(prepared, TRAIN))[0] == 0
    expected = contents(prepared)
    for path in OUTPUTS:
        (prepared / path).unlink()
    shutil.rmtree(prepared / small, ignore_errors=True)
    (prepared / small).symlink_to(small_disk)
    resize(small_disk, size)
    _, said = end(begin(prepared, TRAIN))
    assert "No space left on device" in said
    assert f"where:    {small}" in said
    assert checkpoints(prepared)
    resize(small_disk, "64m")
    _, said = end(begin(prepared, TRAIN))
    assert "going on after step" in said
    assert contents(prepared) == expected


def test_nothing_else_stays(clone: Path) -> None:
    """A finished pipeline leaves no checkpoint and no part of a file, and git has nothing to report."""
    assert not (clone / "data/checkpoints").exists()
    assert not list(clone.rglob("*.part"))
    assert not run(["git", "status", "--porcelain"], clone).stdout
