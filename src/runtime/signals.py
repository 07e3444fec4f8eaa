"""Stop cleanly on Ctrl-C, SIGTERM and SIGHUP, and when the parent `dvc` process dies."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Handler = Callable[[int, Any], object] | signal.Handlers


def raise_on_signals() -> None:
    """Let the first signal raise KeyboardInterrupt. Ignore later ones, which would interrupt the clean-up."""

    def handle(*_: object) -> None:
        ignore_signals()
        raise KeyboardInterrupt("no output is recorded")

    _set_handlers(handle)


def ignore_signals() -> None:
    """Ignore further signals: the process is ending."""
    _set_handlers(signal.SIG_IGN)


@contextmanager
def defer_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a signal arrived. The caller saves its work and leaves the block.

    Raises:
        KeyboardInterrupt: at the end of the block, if a signal arrived.
    """
    received: list[int] = []
    previous = _set_handlers(lambda number, _: received.append(number))
    try:
        yield lambda: bool(received)
    finally:
        if not received:  # else keep the handlers: a second signal must not interrupt the exit
            for number, handler in previous.items():
                signal.signal(number, handler)
    if received:
        raise KeyboardInterrupt("the state is saved")


def stop_with_dvc() -> None:
    """Send SIGTERM to this process when its `dvc` process dies.

    SIGKILL is not forwarded to children, so a thread polls. `dvc` sets DVC_STAGE for all its descendants, so the
    nearest ancestor without it is `dvc`.
    """
    threading.Thread(target=_wait_for_dvc_to_die, daemon=True).start()


def _wait_for_dvc_to_die() -> None:
    with suppress(psutil.NoSuchProcess, ProcessLookupError):
        child = psutil.Process()
        for ancestor in child.parents():
            if not _has_dvc_stage(ancestor):
                break
            child = ancestor
        dvc = ancestor  # its child is this process, a shell or torchrun
        # When dvc dies, its child gets another parent, and the loop ends. If dvc died before the search above, `dvc` is
        # already that other parent, such as init. It has another process group, so the loop ends at once.
        while child.ppid() == dvc.pid and os.getpgid(dvc.pid) == os.getpgid(child.pid):
            time.sleep(0.1)
    # pthread_kill interrupts the main thread even while it waits in a system call
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _has_dvc_stage(process: psutil.Process) -> bool:
    try:
        return "DVC_STAGE" in process.environ()
    except psutil.AccessDenied:  # a process of another user
        return False


def _set_handlers(handler: Handler) -> dict[int, Any]:
    """Set the handler of all `SIGNALS` and return the previous ones. Ignored signals stay ignored, as under nohup."""
    return {number: signal.signal(number, handler) for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
