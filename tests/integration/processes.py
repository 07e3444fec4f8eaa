"""Start, watch and interrupt processes."""

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from src.runtime.signals import SIGNALS
from tests.helpers import ROOT, environment

TIMEOUT = 120  # seconds

Process = subprocess.Popen[str]


def start_process(command: list[str], folder: Path) -> Process:
    """Start a process in its own process group, as a terminal does, with stdout and stderr in one pipe."""
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT) if command[0] == "python" else ""),
        start_new_session=True,
        # background processes of a shell ignore Ctrl-C, and children inherit that
        preexec_fn=lambda: [signal.signal(number, signal.SIG_DFL) for number in SIGNALS],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finish(process: Process) -> tuple[int, str]:
    """Wait for a process and all that share its output. Return its exit status and the output."""
    output, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode, output


def wait_until(condition: Callable[[], object], process: Process) -> None:
    """Poll until the condition is true. Fail the test if the process ends first or if it takes too long."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.0005)


def checkpoint_files(folder: Path) -> list[Path]:
    return sorted((folder / "data/checkpoints").glob("*.checkpoint"))
