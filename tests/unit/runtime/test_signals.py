"""Ctrl-C, SIGTERM and SIGHUP stop a process cleanly."""

import os
import signal

import pytest

from src.runtime.signals import SIGNALS, defer_signals, raise_on_signals


@pytest.fixture(autouse=True)
def heeded_signals() -> None:
    """Heed the signals, even if the tests run in the background of a shell, which ignores SIGINT."""
    for number in SIGNALS:
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_deferred_signal_is_seen_and_raised_at_the_end(number: signal.Signals) -> None:
    raise_on_signals()
    seen = []

    def work() -> None:
        with defer_signals("saved") as signal_received:
            seen.append(signal_received())
            os.kill(os.getpid(), number)
            seen.append(signal_received())
            seen.append("saved")

    with pytest.raises(KeyboardInterrupt, match="saved"):
        work()
    assert seen == [False, True, "saved"]


def test_handlers_are_restored_if_no_signal_arrives_even_after_an_error() -> None:
    raise_on_signals()
    before = [signal.getsignal(number) for number in SIGNALS]
    with pytest.raises(ZeroDivisionError), defer_signals("saved"):
        _ = 1 / 0
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize("number", SIGNALS)
def test_first_signal_raises_and_later_ones_are_ignored(number: signal.Signals) -> None:
    raise_on_signals()
    with pytest.raises(KeyboardInterrupt, match="no output is recorded"):
        os.kill(os.getpid(), number)
    for other in SIGNALS:
        os.kill(os.getpid(), other)


def test_ignored_signals_stay_ignored() -> None:
    """Nohup ignores SIGHUP, and a shell ignores SIGINT for commands in the background."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    raise_on_signals()
    with defer_signals("saved") as signal_received:
        os.kill(os.getpid(), signal.SIGHUP)
        assert not signal_received()
    os.kill(os.getpid(), signal.SIGHUP)
