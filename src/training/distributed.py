"""Training with several processes: torchrun starts them, DistributedDataParallel averages their gradients.

Batch statistics are per process. A single process does not communicate.
"""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from src.device import DeviceSetup
from src.params.compute import ComputeParams
from src.runtime.errors import PipelineError
from src.runtime.signals import ignore_signals

LOST_CONNECTION = 75  # exit status of a process that lost the connection to another one
TIMEOUT = timedelta(days=30)  # for another run with the same checkpoints, or for an evaluation in the main process


def replace_with_torchrun(settings: ComputeParams, device: torch.device) -> None:
    """Replace this process with torchrun if `compute.processes` is above 1. It runs the same command in each process.

    Raises:
        PipelineError: torchrun was started by hand with a different number of processes, or there are too few GPUs.
    """
    started = int(os.environ.get("WORLD_SIZE", 0))
    if started and started != settings.processes:
        raise PipelineError(
            f"torchrun started {started} processes, but compute.processes is {settings.processes}",
            f"dvc exp run -S compute.processes={started}",
        )
    if not started and settings.processes > 1:
        if device.type == "cuda" and settings.processes > (gpus := torch.cuda.device_count()):
            raise PipelineError(
                f"compute.processes is {settings.processes}, but torch finds {gpus} GPUs, and each process needs one",
                f"dvc exp run -S compute.processes={gpus}",
            )
        torchrun = ["-m", "src.training.launch", "--standalone", f"--nproc-per-node={settings.processes}"]
        sys.stdout.flush()
        command = [sys.executable, *torchrun, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "OMP_NUM_THREADS": str(settings.threads)})


def join_process_group(setup: DeviceSetup, run_hash: str) -> None:
    """Connect to the other processes of torchrun, with nccl on cuda and gloo on cpu. Only the main process prints.

    Raises:
        PipelineError: the hosts disagree on parameters, data, code or environment.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        dist.init_process_group("nccl" if setup.device.type == "cuda" else "gloo", timeout=TIMEOUT)
        number = torch.tensor(int(run_hash, 16), device=setup.device)
        if all_reduce(number, dist.ReduceOp.MIN) != all_reduce(number, dist.ReduceOp.MAX):
            raise PipelineError(
                f"hosts disagree on parameters, data, code or environment (process {rank()} of {world_size()})",
                "git log -1; git status; dvc repro prepare   # on each host",
            )
        if not is_main_process():
            sys.stdout = io.StringIO()


@contextmanager
def explain_torch_errors(batch_size: int) -> Iterator[None]:
    """Turn torch's error about a full GPU into a PipelineError, and exit if the connection to a process is lost.

    There is no message about the connection: the process that ended it has printed its error, or `launch` reports that
    it was killed.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise PipelineError(
            f"the GPU has too little memory: {str(error).split('. ')[0]}",
            f"dvc exp run -S train.batch_size={max(1, batch_size // 2)}   # or a smaller model.name",
        ) from None
    except RuntimeError as error:
        if world_size() == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error).lower()):
            raise
        ignore_signals()  # torchrun sends SIGTERM
        sys.exit(LOST_CONNECTION)


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main_process() -> bool:
    """Return whether this process has rank 0. It validates, prints and writes files."""
    return rank() == 0


def all_reduce(tensor: Tensor, operation: dist.ReduceOp.RedOpType = dist.ReduceOp.SUM) -> Tensor:
    """Return the sum, or another reduction, of `tensor` over all processes."""
    result = tensor.clone()
    if world_size() > 1:
        dist.all_reduce(result, operation)
    return result


def any_rank(device: torch.device, *flags: bool) -> list[bool]:
    """Return whether each flag is true in any process."""
    if world_size() == 1:
        return list(flags)
    return (all_reduce(torch.tensor(flags, dtype=torch.float32, device=device)) > 0).tolist()
