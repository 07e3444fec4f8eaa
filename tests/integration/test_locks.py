"""Several stages, or several runs of one stage, at the same time in one folder."""

import signal
from collections.abc import Callable
from pathlib import Path

from tests.helpers import command_of, edit_params
from tests.integration.processes import Process, checkpoint_files, finish, wait_until
from tools.verify import recorded_outputs

TRAIN, INSPECT = command_of("train"), command_of("inspect")
OUTPUTS = ("data/model/model.safetensors", "metrics/history.csv", "metrics/train.json")
Start = Callable[[list[str], Path], Process]


def test_inspect_runs_while_train_runs(prepared: Path, start: Start) -> None:
    """Each stage holds its own lock, so that independent stages overlap in time."""
    edit_params(prepared, {"train.epochs": 1000.0})
    train = start(TRAIN, prepared)
    wait_until(lambda: checkpoint_files(prepared), train)
    status, output = finish(start(INSPECT, prepared))
    assert train.poll() is None
    assert status == 0
    assert "waiting" not in output
    assert {path.name for path in (prepared / ".dvc/tmp").iterdir()} >= {"inspect.lock", "train.lock"}


def test_second_run_of_a_stage_waits_for_the_first(prepared: Path, start: Start) -> None:
    """Even if the first one is stopped. Both end in the same bytes."""
    edit_params(prepared, {"train.checkpoint_seconds": 0})
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


def test_second_dvc_repro_leaves_the_outputs_of_the_first_intact(clone: Path, start: Start) -> None:
    """DVC refuses to run, or the second one waits."""
    edit_params(clone, {"train.seed": 1, "train.checkpoint_seconds": 0})
    command = ["dvc", "repro", "train"]
    first = start(command, clone)
    wait_until(lambda: checkpoint_files(clone), first)
    status, output = finish(start(command, clone))
    assert finish(first)[0] == 0
    assert status == 0 or "is busy" in output, output
    path = "data/model/model.safetensors"
    digest = recorded_outputs(clone)[path]
    assert (clone / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).read_bytes() == (clone / path).read_bytes()
    status, output = finish(start(["dvc", "status", "train"], clone))
    assert "up to date" in output
