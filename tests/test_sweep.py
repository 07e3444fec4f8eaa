"""Seeds and grids through DVC's own queue, with a real crash and a real failure."""

import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.conftest import ROOT, environment, is_block, new_clone, run
from tools import sweep
from tools.sweep import RECIPES, SEED, jobs

SWEEP = ["python", "-m", "tools.sweep"]


def test_jobs_are_the_grid_times_the_seeds() -> None:
    """Every combination once, on top of the recipe, numbers as numbers."""
    wanted = jobs("sprint", 2, ["train.learning_rate=0.02,1e-1", "train.batch_norm=true"])
    assert [(job["train.learning_rate"], job[SEED]) for job in wanted] == [(0.02, 0), (0.02, 1), (0.1, 0), (0.1, 1)]
    assert all(job["train.batch_norm"] is True for job in wanted)
    assert all(job["train.epochs"] == RECIPES["sprint"]["train.epochs"] for job in wanted)


def workers(folder: Path) -> list[psutil.Process]:
    """The processes at work in that folder and below."""
    running = psutil.process_iter(["cwd", "cmdline"])
    return [one for one in running if one.info["cwd"] and Path(one.info["cwd"]).is_relative_to(folder)]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["--set", "train.epochz=1,2"], "train.epochz"),
        (["--set", "trian.epochs=1"], "no section 'trian'"),
        (["--set", "train.batch_norm=true"], "has a normalisation of its own"),
    ],
)
def test_nonsense_is_not_queued(tiny: Path, settings: list[str], words: str) -> None:
    """One block, before the queue is touched."""
    (tiny / "benchmarks").symlink_to(ROOT / "benchmarks")
    done = run([*SWEEP, "dash", *settings], tiny, check=False, PYTHONPATH=str(ROOT))
    assert is_block(done, "a job of this sweep is not valid", words)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seeds", "2"],
        ["dash", "--seeds", "0"],
        ["dash", "--set", "train.epochs"],
        ["dash", "--set", "train.epochs=[1]"],
    ],
)
def test_nonsense_on_the_command_line(tiny: Path, arguments: list[str]) -> None:
    """Exit status 2 and a usage, as for every command."""
    assert run([*SWEEP, *arguments], tiny, check=False, PYTHONPATH=str(ROOT)).returncode == 2


def test_the_leaderboard_is_that_of_the_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The better test accuracy does not lead, a test set in place of the validation set does not count, seeds once."""
    now = {"prepare.validation": 5000, "train.epochs": 3, SEED: 0}
    rows = [(5000, 3, 0, 0.99, 0.90), (5000, 3, 1, 0.97, 0.92), (5000, 3, 1, 0.97, 0.92), (5000, 9, 0, 0.95, 0.99)]
    rows += [(0, 3, 0, 0.999, 0.999), (5000, 7, 0, None, None)]
    table = pd.DataFrame(rows, columns=[*now, "validation_accuracy", "accuracy"])
    table["State"] = [*["Success"] * 5, "Failed"]
    table["Experiment"], table["rev"] = (
        [f"name-{index}" for index in range(6)],
        [f"commit{index}" for index in range(6)],
    )
    monkeypatch.setattr(sweep, "RECIPES", {"default": {}, "long": {"train.epochs": 9}})
    monkeypatch.setattr(sweep, "experiments", lambda: table)
    monkeypatch.setattr(sweep, "base", lambda revision: now)
    monkeypatch.setattr(sweep, "training_seconds", lambda: {"commit0": 10.0, "commit1": 20.0})
    assert [line.split() for line in sweep.leaderboard().splitlines()[1:]] == [
        ["default", "2", "98.00", "±", "1.41", "91.00", "±", "1.41", "15.0"],
        ["long", "1", "95.00", "99.00", "-"],
        ["default", "prepare.validation=0", "1", "-", "99.90", "-"],
        ["1", "failed:", "name-5"],
    ]


def test_a_sweep_goes_on_after_a_crash(tmp_path: Path) -> None:
    """Everything is killed in the midst of it; the same command ends what is left, and a failure stays visible."""
    folder = new_clone(tmp_path)
    run(["dvc", "repro"], folder)
    run(["git", "add", "--all"], folder)
    run(["git", "commit", "--quiet", "--message", "first run"], folder)
    command = [*SWEEP, "dash", "--seeds", "2", "--set", "train.epochs=2,3"]
    process = subprocess.Popen(command, cwd=folder, env=environment(), start_new_session=True)
    try:
        until = time.monotonic() + 120
        while "stages.train" not in str([part.info["cmdline"] for part in workers(folder)]):
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        for part in workers(folder):
            with suppress(psutil.NoSuchProcess):
                part.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode
    board = run(command, folder).stdout
    rows = [line.split() for line in board.splitlines() if line.startswith((" dash", "dash"))]
    assert sorted((row[1], row[2]) for row in rows) == [("train.epochs=2", "2"), ("train.epochs=3", "2")]
    assert "1 failed" in board  # the one that was killed
    assert all(row[-1] != "-" for row in rows)  # the seconds of training, out of the log
    mistake = (folder / "src/reporting/plots.py").read_text() + "\nraise SystemExit(9)\n"
    (folder / "src/reporting/plots.py").write_text(mistake)
    failing = run([*SWEEP, "dash", "--set", "train.epochs=4"], folder, check=False)
    assert failing.returncode == 1
    assert "1 of 1 are not done" in failing.stderr
    assert "2 failed" in failing.stdout
