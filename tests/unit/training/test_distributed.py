"""The behavior of a single process of distributed training."""

import os
import sys
from collections.abc import Callable

import pytest
import torch
from torch import nn

from src.device import Compute
from src.params import Train
from src.runtime.errors import PipelineError
from src.training import distributed
from src.training.distributed import (
    LOST_CONNECTION,
    all_reduce_sum,
    any_rank,
    broadcast_bytes,
    exit_workers,
    is_main_process,
    join_process_group,
    launch_workers,
    rank,
    report_lost_process,
    world_size,
    wrap_ddp,
)

CPU = torch.device("cpu")
COMPUTE = Compute(CPU, torch.float32)
Settings = Callable[..., Train]


@pytest.fixture(autouse=True)
def no_torchrun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start without the variables of torchrun."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The command lines that replace this process."""
    commands = []

    def execve(_: str, command: list[str], environment: dict[str, str]) -> None:
        commands.append([f"OMP_NUM_THREADS={environment['OMP_NUM_THREADS']}", *command])
        raise SystemExit

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "stages.train", "--model", "m"])
    return commands


def test_one_process_is_the_main_process() -> None:
    net = nn.Linear(1, 1)
    join_process_group(COMPUTE, "abc")
    exit_workers()
    assert (rank(), world_size(), is_main_process()) == (0, 1, True)
    assert wrap_ddp(net) is net
    assert (any_rank(True, CPU), any_rank(False, CPU)) == (True, False)
    assert broadcast_bytes(b"abc", CPU) == b"abc"


def test_sum_over_one_process_is_a_copy() -> None:
    sums = torch.tensor([1.0, 2.0])
    total = all_reduce_sum(sums)
    sums.zero_()
    assert total.tolist() == [1, 2]


def test_one_process_needs_no_torchrun(settings: Settings, started: list[list[str]]) -> None:
    launch_workers(settings(processes=1), CPU)
    assert started == []


def test_several_processes_are_started_by_torchrun(settings: Settings, started: list[list[str]]) -> None:
    with pytest.raises(SystemExit):
        launch_workers(settings(processes=2, threads=3), CPU)
    torchrun = ["-m", "src.training.launch", "--standalone", "--nproc-per-node=2"]
    assert started == [["OMP_NUM_THREADS=3", sys.executable, *torchrun, "-m", "stages.train", "--model", "m"]]


def test_torchrun_workers_do_not_start_torchrun(
    settings: Settings, started: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    launch_workers(settings(processes=2), CPU)
    assert started == []


def test_more_processes_than_gpus_are_an_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(PipelineError) as error:
        launch_workers(settings(processes=4), torch.device("cuda"))
    assert str(error.value) == (
        "error: train.processes is 4, but torch finds 2 GPUs, and each process needs one\n"
        "hint: dvc exp run -S train.processes=2"
    )


def test_torchrun_with_another_number_of_processes_is_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(PipelineError) as error:
        launch_workers(settings(processes=1), CPU)
    assert str(error.value) == (
        "error: torchrun started 2 processes, but train.processes is 1\nhint: dvc exp run -S train.processes=2"
    )


def test_hosts_that_disagree_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    backends = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(distributed.dist, "init_process_group", backends.append)
    monkeypatch.setattr(distributed, "broadcast_bytes", lambda content, device: b"abc")
    join_process_group(COMPUTE, "abc")
    assert backends == ["gloo"]
    with pytest.raises(PipelineError, match="error: hosts disagree on parameters, data or code"):
        join_process_group(COMPUTE, "abd")


def test_workers_exit_before_the_main_process_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "rank", lambda: 1)
    with pytest.raises(SystemExit) as end:
        exit_workers()
    assert not end.value.code


def test_lost_connection_is_an_error_that_names_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(PipelineError) as error, report_lost_process():
        raise RuntimeError("[../gloo/transport/tcp/pair.cc] Connection closed by peer\nmore")
    assert str(error.value).splitlines()[0] == (
        "error: process 0 of 2 lost the connection to another process: "
        "[../gloo/transport/tcp/pair.cc] Connection closed by peer"
    )


def test_process_without_connection_exits_silently_on_a_single_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    monkeypatch.setenv("GROUP_WORLD_SIZE", "1")
    with pytest.raises(SystemExit) as end, report_lost_process():
        raise RuntimeError("gloo: Connection closed by peer")
    assert end.value.code == LOST_CONNECTION


@pytest.mark.parametrize(("processes", "message"), [(1, "gloo"), (2, "shapes cannot be multiplied")])
def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, processes: int, message: str) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    with pytest.raises(RuntimeError, match=message), report_lost_process():
        raise RuntimeError(message)
