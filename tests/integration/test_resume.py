"""Training that is interrupted by signals resumes and ends in the same bytes."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers import ROOT, command_of, create_once, edit_params, recorded_outputs, run
from tests.integration.processes import Process, checkpoint_files, finish, wait_until

MODEL, FIRST_BATCH = "data/model/model.safetensors", "data/model/first_batch.safetensors"
OUTPUTS = (MODEL, FIRST_BATCH, "metrics/history.csv", "metrics/train.json")
STEPS = 60
SLOW = {"train.epochs": STEPS / 5, "train.evaluations": STEPS, "train.learning_rate": 0.01}  # a checkpoint per step
TRAIN = command_of("train")
REPRO = ["dvc", "repro", "train"]

Start = Callable[[list[str], Path], Process]


def contents(folder: Path) -> list[bytes]:
    return [(folder / path).read_bytes() for path in OUTPUTS]


@pytest.fixture
def project(prepared: Path) -> Path:
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


def start_and_wait(start: Start, command: list[str], folder: Path) -> Process:
    """Start a training run, and return at a random moment after its first checkpoint."""
    process = start(command, folder)
    wait_until(lambda: checkpoint_files(folder), process)
    time.sleep(random.uniform(0, 0.2))
    return process


def count_saves(folder: Path) -> Iterator[int]:
    """Yield how many checkpoints were seen until now."""
    seen = set()
    while True:
        with suppress(FileNotFoundError):
            seen |= {path.stat().st_mtime_ns for path in checkpoint_files(folder)}
        yield len(seen)


@pytest.mark.parametrize("pattern", ["*.checkpoint", ".*.part"], ids=["later", "while it writes a checkpoint"])
@pytest.mark.parametrize("trials", [1, pytest.param(20, marks=pytest.mark.long)])
def test_training_killed_with_sigkill_resumes_to_identical_bytes(
    project: Path, expected: list[bytes], start: Start, pattern: str, trials: int
) -> None:
    """Kill it when a file of the pattern exists after a random number of saves. Nothing is left behind."""
    for _ in range(trials):
        saves, process = count_saves(project), start(TRAIN, project)
        number, files = random.randrange(1, STEPS // 2), (project / "data/checkpoints").glob
        wait_until(lambda: next(saves) >= number and any(files(pattern)), process)  # noqa: B023
        os.killpg(process.pid, signal.SIGKILL)
        assert finish(process)[0] == -signal.SIGKILL
        assert (project / "metrics/history.csv").exists()  # written during training
        for path in OUTPUTS:  # as `dvc` does before it runs the stage again
            (project / path).unlink(missing_ok=True)
        status, output = finish(start(TRAIN, project))
        assert status == 0, output
        assert "resuming after step" in output
        assert contents(project) == expected
        assert not any((project / "data/checkpoints").iterdir())


@pytest.mark.parametrize(
    ("number", "to_group"),
    [(signal.SIGTERM, False), (signal.SIGINT, True), (signal.SIGHUP, True)],
    ids=["kill dvc", "Ctrl-C", "closed terminal"],
)
def test_interrupted_dvc_repro_records_nothing_and_resumes_to_identical_bytes(
    slow_clone: Path, recorded: dict[str, str], start: Start, number: signal.Signals, to_group: bool
) -> None:
    lock = (slow_clone / "dvc.lock").read_text()
    process = start_and_wait(start, REPRO, slow_clone)
    (os.killpg if to_group else os.kill)(process.pid, number)
    status, output = finish(process)
    assert status != 0
    hint = "hint: dvc repro   # a training run resumes from its checkpoint\n"
    assert f"error: interrupted: the state is saved\n{hint}" in output
    assert not (slow_clone / OUTPUTS[0]).exists()
    assert (slow_clone / "dvc.lock").read_text() == lock
    assert "resuming after step" in run(REPRO, slow_clone).stdout
    assert recorded_outputs(slow_clone) == recorded


@pytest.mark.parametrize("shell", ["bash", "sh"])  # bash is replaced by the stage, Debian's sh stays between
def test_stage_stops_when_its_dvc_is_killed_with_sigkill(
    slow_clone: Path, recorded: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch, shell: str
) -> None:
    """The next `dvc repro` waits for the orphan and resumes, and nothing is written after it."""
    monkeypatch.setenv("SHELL", f"/bin/{shell}")  # dvc reads it
    process = start_and_wait(start, REPRO, slow_clone)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert "resuming after step" in run(REPRO, slow_clone).stdout
    assert recorded_outputs(slow_clone) == recorded
    assert "interrupted: the state is saved" in finish(process)[1]
    assert "up to date" in run(["dvc", "status", "train"], slow_clone).stdout
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_killed_experiment_in_a_copy_resumes_to_identical_bytes(
    slow_clone: Path, recorded: dict[str, str], start: Start
) -> None:
    """Each run has its own copy of the project. The checkpoints are in the main checkout."""
    command = ["dvc", "exp", "run", "--temp", "--name", "copy", "train"]
    process = start_and_wait(start, command, slow_clone)
    os.killpg(process.pid, signal.SIGKILL)
    finish(process)
    assert "resuming after step" in run(command, slow_clone).stdout
    run(["dvc", "exp", "apply", "copy"], slow_clone)
    assert recorded_outputs(slow_clone) == recorded
