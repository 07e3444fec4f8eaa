"""Settings of all unit tests."""

import signal
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Use one thread: the tests run in several processes side by side."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def restored_signal_handlers() -> Iterator[None]:
    """Undo what the code under test does to the signal handlers of this process."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = {number: signal.getsignal(number) for number in numbers}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)
