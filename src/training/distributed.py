"""Training with several processes: torchrun starts them, DistributedDataParallel averages their gradients.

Batch statistics are per process. A single process does not communicate.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from src.device import Compute
from src.params import Train
from src.runtime.errors import PipelineError
from src.runtime.signals import ignore_signals

LOST_CONNECTION = 75  # exit status of a process that lost the connection to another one on the same host


def launch_workers(settings: Train, device: torch.device) -> None:
    """Replace this process with torchrun if `train.processes` is above 1. It runs the same command in each process.

    Raises:
        PipelineError: torchrun was started by hand with a different number of processes, or there are too few GPUs.
    """
    started = int(os.environ.get("WORLD_SIZE", 0))
    if started and started != settings.processes:
        raise PipelineError(
            f"torchrun started {started} processes, but train.processes is {settings.processes}",
            f"dvc exp run -S train.processes={started}",
        )
    if not started and settings.processes > 1:
        if device.type == "cuda" and settings.processes > (gpus := torch.cuda.device_count()):
            raise PipelineError(
                f"train.processes is {settings.processes}, but torch finds {gpus} GPUs, and each process needs one",
                f"dvc exp run -S train.processes={gpus}",
            )
        torchrun = ["-m", "src.training.launch", "--standalone", f"--nproc-per-node={settings.processes}"]
        sys.stdout.flush()
        command = [sys.executable, *torchrun, *sys.orig_argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "OMP_NUM_THREADS": str(settings.threads)})


def join_process_group(compute: Compute, run_hash: str) -> None:
    """Connect to the other processes of torchrun.

    Args:
        compute: the backend is nccl on cuda and gloo on cpu.
        run_hash: has to be the same in all processes.

    Raises:
        PipelineError: the hosts disagree on parameters, data or code.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        dist.init_process_group("nccl" if compute.device.type == "cuda" else "gloo")
        differs = broadcast_bytes(run_hash.encode(), compute.device) != run_hash.encode()
        if any_rank(differs, compute.device):
            raise PipelineError(
                f"hosts disagree on parameters, data or code (process {rank()} of {world_size()})",
                "git log -1; git status; dvc repro prepare   # on each host",
            )


def wrap_ddp(net: nn.Module) -> nn.Module:
    """Wrap `net` in DistributedDataParallel, which averages its gradients over all processes."""
    return DistributedDataParallel(net) if world_size() > 1 else net


def exit_workers() -> None:
    """Exit, unless this is the main process."""
    if not is_main_process():
        sys.exit()


@contextmanager
def report_lost_process() -> Iterator[None]:
    """Turn torch's errors about lost connections into a PipelineError. On a single host, exit without a message.

    There, the process that ended the connection has printed its error, or `launch` reports that it was killed.
    """
    try:
        yield
    except RuntimeError as error:
        if world_size() == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error).lower()):
            raise
        if os.environ.get("GROUP_WORLD_SIZE") == "1":  # the number of hosts
            ignore_signals()  # torchrun sends SIGTERM
            sys.exit(LOST_CONNECTION)
        raise PipelineError(
            f"process {rank()} of {world_size()} lost the connection to another process: {str(error).splitlines()[0]}",
            "torchrun ...   # again, on each host; resumes from the checkpoint",
        ) from None


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Return the number of processes."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main_process() -> bool:
    """Return whether this process has rank 0. It validates, prints and writes files."""
    return rank() == 0


def all_reduce_sum(tensor: Tensor) -> Tensor:
    """Return the sum of `tensor` over all processes."""
    total = tensor.clone()
    if world_size() > 1:
        dist.all_reduce(total)
    return total


def any_rank(flag: bool, device: torch.device) -> bool:
    """Return whether `flag` is true in any process."""
    return flag if world_size() == 1 else bool(all_reduce_sum(torch.tensor(float(flag), device=device)) > 0)


def broadcast_bytes(content: bytes, device: torch.device) -> bytes:
    """Return the bytes of process 0 in every process. torch's broadcast of objects would unpickle them."""
    if world_size() == 1:
        return content
    size = torch.tensor(len(content), device=device)
    dist.broadcast(size, 0)
    if not int(size):
        return b""
    buffer = torch.zeros(int(size), dtype=torch.uint8, device=device)
    if is_main_process():
        buffer.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    dist.broadcast(buffer, 0)
    return buffer.cpu().numpy().tobytes()
