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
import yaml

from tests.conftest import environment, new_clone, run

EPOCHS = 2000


def test_bar_history_and_charts_are_current(tmp_path: Path) -> None:
    """On a terminal the bar has epoch, loss, accuracy, images/s and time left; `dvc plots show` draws what is there."""
    folder = new_clone(tmp_path)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["train"]["epochs"] = EPOCHS
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (40, 150))
    process = subprocess.Popen(
        ["dvc", "repro", "train"], cwd=folder, env=environment(), stdout=theirs, stderr=theirs,
        start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    try:
        shown, until = b"", time.monotonic() + 120
        while shown.count(b"validation loss") < 3:
            assert time.monotonic() < until, shown[-3000:]
            if select.select([ours], [], [], 1)[0]:
                shown += os.read(ours, 2**16)
        history = pd.read_csv(folder / "metrics/history.csv")
        run(["dvc", "plots", "show", "metrics/history.csv"], folder)
        assert process.poll() is None
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    bar = r"epoch \d+/2000: +\d+%.*<.*, +[\d.]+k? images/s, loss \d\.\d{4}, accuracy [01]\.\d{4}\]"
    assert re.search(bar, shown.decode()), shown[-3000:]
    assert len(history) >= 3
    page = (folder / "dvc_plots/index.html").read_text()
    assert all(f'"epoch": "{epoch}"' in page for epoch in history["epoch"])
