"""What a person sees while training runs."""

import os
import pty
import re
import select
import signal
import subprocess
import termios
import time
from pathlib import Path

import pandas as pd

from tests.helpers import edit_params, environment, run


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
    bar = r"epoch \d+/2000: +\d+%.*<.*, +[\d.]+k? images/s, loss \d+\.\d{4}, accuracy [01]\.\d{4}\]"
    assert re.search(bar, shown.decode()), shown[-3000:]
    assert len(history) >= 3
    page = (clone / "dvc_plots/index.html").read_text()
    assert all(f'"epoch": "{epoch}"' in page for epoch in history["epoch"])
