"""Several runs of one stage at the same time in one folder."""

import signal
from collections.abc import Callable
from pathlib import Path

from tests.helpers import command_of, edit_params
from tests.integration.processes import Process, checkpoint_files, finish, wait_until

TRAIN = command_of("train")
OUTPUTS = ("data/model/model.safetensors", "metrics/history.csv", "metrics/train.json")
Start = Callable[[list[str], Path], Process]


def test_second_run_of_a_stage_waits_for_the_first(prepared: Path, start: Start) -> None:
    """Even if the first one is stopped. Both end in the same bytes."""
    edit_params(prepared, {"train.evaluations": 25})
    first = start(TRAIN, prepared)
    wait_until(lambda: checkpoint_files(prepared), first)
    first.send_signal(signal.SIGSTOP)
    second = start(TRAIN, prepared)
    assert second.stdout
    assert second.stdout.readline() == "waiting for the process that holds .dvc/tmp/train.lock\n"
    second.send_signal(signal.SIGSTOP)  # or it would overwrite what is read below
    first.send_signal(signal.SIGCONT)
    assert finish(first)[0] == 0
    expected = [(prepared / path).read_bytes() for path in OUTPUTS]
    second.send_signal(signal.SIGCONT)
    assert finish(second)[0] == 0
    assert [(prepared / path).read_bytes() for path in OUTPUTS] == expected
