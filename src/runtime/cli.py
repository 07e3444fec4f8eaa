"""What every stage shares: its command line, its parameters, and errors that a person can act on."""

import argparse
import fcntl
import inspect
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NoReturn

import psutil

from src.params import load_params
from src.runtime.errors import PipelineError

LOCK = Path(".dvc/tmp/stage.lock")


def run_stage(main: Callable[..., None]) -> None:
    """Run `main(params, **paths)`: each parameter after the first becomes a required option `--name PATH`."""
    _, *names = inspect.signature(main).parameters
    doc = (sys.modules[main.__module__].__doc__ or "").strip()
    parser = argparse.ArgumentParser(prog=f"python -m stages.{Path(sys.argv[0]).stem}", description=doc)
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, metavar="PATH")
    paths = vars(parser.parse_args())
    with plain_errors():
        _on_interruption(_interrupt)
        if "DVC_STAGE" in os.environ:
            threading.Thread(target=_stop_when_orphaned, daemon=True).start()
        with only_writer(LOCK) if os.environ.get("RANK", "0") == "0" else nullcontext():  # torchrun: the first writes
            main(load_params(Path("params.yaml")), **paths)


@contextmanager
def plain_errors() -> Iterator[None]:
    """Within, a problem its reader can solve ends the process: one block on stderr, exit status 1, no traceback."""
    try:
        yield
    except PipelineError as error:
        fail(str(error), status=1)
    except OSError as error:
        where = error.filename or Path.cwd()
        refusal = PipelineError(
            "a file cannot be read or written",
            found=error.strerror or error,
            expected="room on the disk, a file and folder this user may read and write",
            where=where,
            run=f"df -h . && ls -ld '{where}'   # mend it, then the same command again",
        )
        fail(str(refusal), status=1)
    except KeyboardInterrupt as interruption:
        fail(f"interrupted: {interruption}; the same command goes on from here", status=130)


@contextmanager
def only_writer(lock: Path) -> Iterator[None]:
    """Within, no other stage writes in this tree: one that a killed `dvc` left behind may still be saving its work.

    The lock goes with its process, however that ends.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for process {lock.read_text()}, which writes in this tree", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def interruption_deferred() -> Iterator[Callable[[], bool]]:
    """Within, Ctrl-C and kill only note that they came: the caller asks, saves its work and leaves the block.

    Raises KeyboardInterrupt at the end of the block when one came.
    """
    came: list[int] = []
    before = _on_interruption(lambda number, _: came.append(number))
    try:
        yield lambda: bool(came)
    finally:
        if not came:
            for number, handler in before.items():
                signal.signal(number, handler)
    if came:
        raise KeyboardInterrupt("the state is saved")


def _interrupt(*_: object) -> None:
    """Once: a terminal and the orphan watch may both send one, and the second is not to hit the clean-up."""
    _on_interruption(signal.SIG_IGN)
    raise KeyboardInterrupt("nothing is recorded")


def _on_interruption(handler: Callable[[int, Any], object] | signal.Handlers) -> dict[int, Any]:
    """Set the handler of Ctrl-C, kill and a closed terminal, but of none this process was started to ignore (nohup).

    Returns the handlers before.
    """
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    return {number: signal.signal(number, handler) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}


def _stop_when_orphaned() -> None:
    """Interrupt this process once the `dvc` that started it is gone, of which `kill -9` says nothing to its children.

    Between the two a shell or torchrun may stay; they have DVC_STAGE too. Who adopts an orphan is in another group.
    """
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        process = psutil.Process()
        for dvc in process.parents():
            if not _runs_a_stage(dvc):
                break
            process = dvc
        while process.ppid() == dvc.pid and os.getpgid(dvc.pid) == os.getpgid(process.pid):
            time.sleep(0.1)
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # it may wait in a system call


def _runs_a_stage(process: psutil.Process) -> bool:
    try:
        return "DVC_STAGE" in process.environ()
    except psutil.AccessDenied:  # of another user
        return False


def fail(message: str, status: int) -> NoReturn:
    _on_interruption(signal.SIG_IGN)  # it is ending already
    print(message, file=sys.stderr, flush=True)
    raise SystemExit(status)
