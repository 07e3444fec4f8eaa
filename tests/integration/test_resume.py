"""Training that is interrupted by signals or a full disk resumes and ends in the same bytes."""

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers import ROOT, command_of, create_once, edit_params, run
from tests.integration.processes import Process, checkpoint_files, finish, wait_until
from tools.verify import recorded_outputs

OUTPUTS = ("data/model/model.safetensors", "metrics/history.csv", "metrics/train.json")
STEPS = 60
SLOW = {"train.epochs": STEPS / 5, "train.checkpoint_seconds": 0, "train.learning_rate": 0.01}
TRAIN = command_of("train")
REPRO = ["dvc", "repro", "train"]

Start = Callable[[list[str], Path], Process]


def contents(folder: Path) -> list[bytes]:
    return [(folder / path).read_bytes() for path in OUTPUTS]


def remove_outputs(folder: Path) -> None:
    """Remove the outputs of the stage, as `dvc` does before it runs the stage again."""
    for path in OUTPUTS:
        (folder / path).unlink(missing_ok=True)


def partial_checkpoints(folder: Path) -> list[Path]:
    return list((folder / "data/checkpoints").glob("*/.*.part"))


@pytest.fixture
def project(prepared: Path) -> Path:
    """A prepared project with 60 steps to train, and a checkpoint after each."""
    edit_params(prepared, SLOW)
    return prepared


@pytest.fixture(scope="module")
def expected(prepared_template: Path, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The outputs of an uninterrupted run."""

    def create(folder: Path) -> None:
        shutil.copytree(prepared_template, folder)
        edit_params(folder, SLOW)
        run(TRAIN, folder, PYTHONPATH=str(ROOT))

    return contents(create_once(tmp_path_factory, "an uninterrupted run", create))


@pytest.fixture
def slow_clone(clone: Path) -> Path:
    """A clone in which `dvc repro train` has 60 steps to train, with a checkpoint after each."""
    edit_params(clone, SLOW)
    return clone


@pytest.fixture(scope="module")
def recorded(finished_clone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests that an uninterrupted `dvc repro train` records."""

    def create(folder: Path) -> None:
        shutil.copytree(finished_clone, folder, symlinks=True)
        edit_params(folder, SLOW)
        run(REPRO, folder)

    return recorded_outputs(create_once(tmp_path_factory, "an uninterrupted clone", create))


def start_and_wait(start: Start, command: list[str], folder: Path, moments: random.Random) -> Process:
    """Start a training run, and return at a random moment after its first checkpoint."""
    process = start(command, folder)
    wait_until(lambda: checkpoint_files(folder), process)
    time.sleep(moments.uniform(0, 0.2))
    return process


@pytest.mark.parametrize("trials", [3, pytest.param(20, marks=pytest.mark.long)])
def test_training_killed_with_sigkill_resumes_to_identical_bytes(
    project: Path, expected: list[bytes], start: Start, count: Callable[[str], None], trials: int
) -> None:
    """Kill at random moments. Nothing is left behind."""
    moments = random.Random(trials)
    for _ in range(trials):
        step, process = moments.randrange(1, STEPS // 2), start(TRAIN, project)
        wait_until(lambda: any(path.name >= f"{step:09}" for path in checkpoint_files(project)), process)  # noqa: B023
        time.sleep(moments.uniform(0, 0.2))
        os.killpg(process.pid, signal.SIGKILL)
        assert finish(process)[0] == -signal.SIGKILL
        remove_outputs(project)
        status, output = finish(start(TRAIN, project))
        assert status == 0, output
        assert "resuming after step" in output
        assert contents(project) == expected
        assert not any((project / "data/checkpoints").iterdir())
    count(f"{trials} of {trials} killed runs ended in the same bytes")


@pytest.mark.parametrize("trials", [1, pytest.param(5, marks=pytest.mark.long)])
def test_training_killed_while_it_writes_a_checkpoint_resumes_to_identical_bytes(
    project: Path, expected: list[bytes], start: Start, count: Callable[[str], None], trials: int
) -> None:
    """Some checkpoints are complete before SIGKILL arrives. Repeat until enough were cut off."""
    killed = 0
    for _ in range(4 * trials):
        process = start(TRAIN, project)
        wait_until(lambda: partial_checkpoints(project), process)
        os.killpg(process.pid, signal.SIGKILL)
        assert finish(process)[0] == -signal.SIGKILL
        if not partial_checkpoints(project):
            continue
        can_resume = bool(checkpoint_files(project))
        remove_outputs(project)
        status, output = finish(start(TRAIN, project))
        assert status == 0, output
        assert ("resuming after step" in output) == can_resume
        assert contents(project) == expected
        assert not any((project / "data/checkpoints").iterdir())
        killed += 1
        if killed == trials:
            break
    assert killed == trials
    count(f"{trials} of {trials} runs killed while writing a checkpoint ended in the same bytes")


def test_interrupted_training_saves_its_state(project: Path, expected: list[bytes], start: Start) -> None:
    """Also if Ctrl-C is pressed several times."""
    process = start_and_wait(start, TRAIN, project, random.Random(0))
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
    status, output = finish(process)
    assert status == 130
    hint = "hint: dvc repro   # a training run resumes from its checkpoint\n"
    assert f"error: interrupted: the state is saved\n{hint}" in output
    assert "Traceback" not in output
    assert not (project / OUTPUTS[0]).exists()
    assert "resuming after step" in finish(start(TRAIN, project))[1]
    assert contents(project) == expected


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
def test_interrupted_dvc_repro_records_nothing_and_resumes_to_identical_bytes(
    slow_clone: Path,
    tmp_path: Path,
    recorded: dict[str, str],
    start: Start,
    count: Callable[[str], None],
    trials: int,
    number: signal.Signals,
    to_group: bool,
) -> None:
    moments = random.Random(number)
    for trial in range(trials):
        folder = shutil.copytree(slow_clone, tmp_path / str(trial), symlinks=True)
        lock = (folder / "dvc.lock").read_text()
        process = start_and_wait(start, REPRO, folder, moments)
        (os.killpg if to_group else os.kill)(process.pid, number)
        status, output = finish(process)
        assert status != 0
        assert "interrupted: the state is saved" in output
        assert not (folder / OUTPUTS[0]).exists()
        assert (folder / "dvc.lock").read_text() == lock
        assert "resuming after step" in run(REPRO, folder).stdout
        assert recorded_outputs(folder) == recorded
    receiver = "dvc and its stage" if to_group else "dvc alone"
    count(f"{trials} of {trials} times {number.name} to {receiver}: the state is saved, and the bytes are the same")


@pytest.mark.parametrize("shell", ["bash", "sh"])  # bash is replaced by the stage, Debian's sh stays between
@pytest.mark.parametrize("trials", [1, pytest.param(10, marks=pytest.mark.long)])
def test_stage_stops_when_its_dvc_is_killed_with_sigkill(
    slow_clone: Path,
    tmp_path: Path,
    recorded: dict[str, str],
    start: Start,
    count: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    trials: int,
    shell: str,
) -> None:
    """The next `dvc repro` waits for the orphan and resumes, and nothing is written after it."""
    monkeypatch.setenv("SHELL", f"/bin/{shell}")  # dvc reads it
    moments = random.Random(9)
    for trial in range(trials):
        folder = shutil.copytree(slow_clone, tmp_path / str(trial), symlinks=True)
        process = start_and_wait(start, REPRO, folder, moments)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert "resuming after step" in run(REPRO, folder).stdout
        assert recorded_outputs(folder) == recorded
        status, output = finish(process)
        assert status == -signal.SIGKILL
        assert "interrupted: the state is saved" in output
        assert "up to date" in run(["dvc", "status", "train"], folder).stdout
        with pytest.raises(ProcessLookupError):
            os.killpg(process.pid, 0)
    count(f"{trials} of {trials} orphans of dvc, killed under {shell}, ended by themselves; the next bytes stayed")


def test_killed_experiment_in_a_copy_resumes_to_identical_bytes(
    slow_clone: Path, recorded: dict[str, str], start: Start
) -> None:
    """Each run has its own copy of the project. The checkpoints are in the main checkout."""
    command = ["dvc", "exp", "run", "--temp", "--name", "copy", "train"]
    process = start_and_wait(start, command, slow_clone, random.Random(0))
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    assert "resuming after step" in run(command, slow_clone).stdout
    run(["dvc", "exp", "apply", "copy"], slow_clone)
    assert recorded_outputs(slow_clone) == recorded


def resize(disk: Path, size: str) -> None:
    """Give the file system of `small_disk` another size: "4k", "64m"."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


@pytest.mark.parametrize(("small", "size"), [("data/checkpoints", "2m"), ("data/model", "64k"), ("metrics", "4k")])
def test_training_on_a_full_disk_resumes_to_identical_bytes_after_space_is_freed(
    project: Path, expected: list[bytes], start: Start, small_disk: Path, small: str, size: str
) -> None:
    """No room for a checkpoint, the model or the metrics."""
    (project / small).parent.mkdir(parents=True, exist_ok=True)
    (project / small).symlink_to(small_disk)
    resize(small_disk, size)
    status, output = finish(start(TRAIN, project))
    assert status == 1
    assert f"error: {small}" in output
    assert "No space left on device" in output
    assert "hint: df -h" in output
    assert checkpoint_files(project)
    resize(small_disk, "64m")
    status, output = finish(start(TRAIN, project))
    assert status == 0
    assert "resuming after step" in output
    assert contents(project) == expected
