"""What a person sees while training runs."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd

from tests.helpers import edit_params, environment, run
from tests.integration.processes import start_process


def test_progress_bar_history_and_plots_are_current_during_training(clone: Path) -> None:
    """The bar on a terminal shows epoch, time left, images per second, loss and accuracy."""
    edit_params(clone, {"train.epochs": 2000})
    master, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (40, 150))
    process = subprocess.Popen(
        ["dvc", "repro", "train"],
        cwd=clone,
        env=environment(),
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    try:
        shown, end = b"", time.monotonic() + 120
        while shown.count(b"validation loss") < 4:  # the line of an epoch comes before its row in the history
            assert time.monotonic() < end, shown[-3000:]
            if select.select([master], [], [], 1)[0]:
                shown += os.read(master, 2**16)
        history = pd.read_csv(clone / "metrics/history.csv")
        run(["dvc", "plots", "show", "metrics/history.csv"], clone)
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        os.close(master)
    bar = r"epoch \d+\.\d\d/2000: +\d+%.*<.*, +[\d.]+k? images/s, loss \d+\.\d{4}, accuracy [01]\.\d{4}\]"
    assert re.search(bar, shown.decode()), shown[-3000:]
    assert len(history) >= 3
    page = (clone / "dvc_plots/index.html").read_text()
    assert all(f'"epoch": "{epoch}"' in page for epoch in history["epoch"])


def test_table_of_experiments_moves_during_training_in_the_workspace_and_in_the_queue(clone: Path) -> None:
    """Each reads `dvc exp show` until the epoch has changed twice."""
    run(["git", "commit", "--quiet", "--allow-empty", "--message", "now"], clone)
    run(["dvc", "exp", "run", "--queue", "--name", "queued", "-S", "train.epochs=5000"], clone)
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}  # the worker would keep a pipe open
    subprocess.run(["dvc", "queue", "start"], cwd=clone, env=environment(), check=True, **silent)
    edit_params(clone, {"train.epochs": 5000})
    process = start_process(["dvc", "repro", "train"], clone)
    epochs: dict[str, set[float]] = {"workspace": set(), "queued": set()}
    try:
        end = time.monotonic() + 120
        while min(map(len, epochs.values())) < 3:
            assert time.monotonic() < end, epochs
            for name, epoch in shown_epochs(clone).items():
                epochs[name].add(epoch)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        run(["dvc", "queue", "kill", "--force", "queued"], clone, check=False)
        run(["dvc", "queue", "stop"], clone, check=False)
    assert process.returncode == -signal.SIGKILL  # it was still training


def shown_epochs(clone: Path) -> dict[str, float]:
    """Return the epoch of the workspace and of running experiments, by name, as `dvc exp show` sees it."""
    done = run(["dvc", "exp", "show", "--json"], clone, check=False)
    if done.returncode:  # a file was replaced while DVC read it
        return {}
    table = json.loads(done.stdout)
    states = {"workspace": table[0]} | {
        experiment["name"]: experiment["revs"][0]
        for row in table
        for experiment in row["experiments"] or []
        if (experiment["executor"] or {}).get("state") == "running"
    }
    found = {}
    for name, state in states.items():
        with suppress(KeyError, TypeError):  # no metrics yet
            found[name] = state["data"]["metrics"]["metrics/train.json"]["data"]["epoch"]
    return found
