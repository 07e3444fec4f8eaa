"""tools.sweep in DVC's real queue, with a real crash and a real failure."""

import re
import signal
import subprocess
from pathlib import Path

import psutil

from tests.helpers import environment, is_error, run
from tests.integration.processes import wait_until

SWEEP = ["python", "-m", "tools.sweep"]


def kill_during_training(command: list[str], folder: Path) -> None:
    """Start a sweep, and kill it and DVC's queue with SIGKILL while a training runs."""

    def processes() -> list[psutil.Process]:
        running = psutil.process_iter(["cwd", "cmdline"])
        return [item for item in running if item.info["cwd"] and Path(item.info["cwd"]).is_relative_to(folder)]

    with subprocess.Popen(command, cwd=folder, env=environment(), start_new_session=True) as process:
        try:
            wait_until(lambda: "stages.train" in str([item.info["cmdline"] for item in processes()]), process)
        finally:
            killed = processes()
            for item in killed:
                item.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(killed, timeout=10)
    assert not alive, "process 1 does not reap orphans: `dvc queue kill` needs that (docker run --init)"


def test_sweep_continues_after_a_crash_and_reports_failures(clone: Path) -> None:
    command = [*SWEEP, "dash", "--seeds", "2", "-S", "train.epochs=3"]
    kill_during_training(command, clone)

    crashed = run(command, clone, check=False)
    assert is_error(crashed, "1 of 2 runs are not done", "`dvc queue kill NAME`")
    (name,) = re.findall(r"^\S+ +(\S+) .*Running", run(["dvc", "queue", "status"], clone).stdout, re.MULTILINE)
    run(["dvc", "queue", "kill", name], clone)

    board = run(command, clone).stdout
    rows = [line.split() for line in board.splitlines() if line.lstrip().startswith("dash ")]
    assert [(row[1], row[2]) for row in rows] == [("train.epochs=3", "2")]

    queued = run(["dvc", "queue", "status"], clone).stdout
    run(command, clone)
    assert run(["dvc", "queue", "status"], clone).stdout == queued  # nothing was left to do

    audit = clone / "src/audit.py"
    audit.write_text(f"{audit.read_text()}\nraise SystemExit(9)\n")
    failing = run([*SWEEP, "dash", "-S", "train.epochs=5"], clone, check=False)
    assert "warning: uncommitted changes; experiments may differ:\n M src/audit.py" in failing.stderr
    assert "error: 1 of 1 runs are not done\nhint: dvc queue status" in failing.stderr
