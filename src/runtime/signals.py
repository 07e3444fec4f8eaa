"""Stop cleanly on Ctrl-C, SIGTERM and SIGHUP, and when the parent `dvc` process dies."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import takewhile
from typing import Any

import psutil

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


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
def defer_signals(message: str) -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether a signal arrived. The caller saves its work and leaves the block.

    Raises:
        KeyboardInterrupt: with `message`, at the end of the block, if a signal arrived.
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
        raise KeyboardInterrupt(message)


def stop_with_dvc() -> None:
    """Send SIGTERM to this process when the parent `dvc` process dies. SIGKILL is not forwarded to children."""

    def wait() -> None:
        with suppress(psutil.Error):
            process = psutil.Process()
            # `dvc` sets DVC_STAGE for all its descendants, so its child is the outermost process with it
            *_, child = takewhile(lambda item: "DVC_STAGE" in item.environ(), [process, *process.parents()])
            dvc = child.ppid()
            # dvc.wait() would also wait until the parent of `dvc` has reaped it
            while child.is_running() and child.ppid() == dvc:
                time.sleep(0.1)
            # pthread_kill interrupts the main thread even while it waits in a system call
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _set_handlers(handler: Callable[[int, Any], object] | signal.Handlers) -> dict[int, Any]:
    """Set the handler of all `SIGNALS` and return the previous ones. Ignored signals stay ignored, as under nohup."""
    return {number: signal.signal(number, handler) for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
