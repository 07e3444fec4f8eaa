"""Seeds and grids through DVC's own queue, with a real crash and a real failure."""

import signal
import subprocess
import time
from pathlib import Path

import psutil

from tests.conftest import environment, new_clone, run
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
    running = psutil.process_iter(["cwd"])
    return [one for one in running if one.info["cwd"] and Path(one.info["cwd"]).is_relative_to(folder)]


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
        while "stages.train" not in str([part.cmdline() for part in workers(folder)]):
            assert time.monotonic() < until
            time.sleep(0.1)
    finally:
        for part in workers(folder):
            part.send_signal(signal.SIGKILL)
        process.wait()
    assert process.returncode
    board = run(command, folder).stdout
    rows = [line.split() for line in board.splitlines() if line.startswith((" dash", "dash"))]
    assert sorted((row[1], row[2]) for row in rows) == [("train.epochs=2", "2"), ("train.epochs=3", "2")]
    assert "1 failed" in board  # the one that was killed
    failing = run([*SWEEP, "dash", "--set", "train.batch_norm=true"], folder, check=False)
    assert failing.returncode == 1
    assert "1 of 1 are not done" in failing.stderr
    assert "2 failed" in failing.stdout
