"""Several processes train as one, through torch.distributed: each takes its share of every batch.

What they add up (gradients, sums for the record, statistics of a batch) is what one process would have had. Without
torchrun, all of this does nothing.
"""

import os
import sys
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from src.params import Train
from src.runtime.errors import PipelineError

RESTARTS = 3  # times that torchrun starts all processes anew after one died; they go on from the checkpoint


def launch(settings: Train) -> None:
    """With `train.processes` above 1, become torchrun, which starts this stage that many times.

    Raises PipelineError where torchrun was called by hand with another number of processes.
    """
    started = int(os.environ.get("WORLD_SIZE", 0))
    if started and started != settings.processes:
        raise PipelineError(
            "torchrun started another number of processes",
            found=f"{started} in all",
            expected=f"{settings.processes}",
            where="params.yaml: train.processes",
            run=f"dvc exp run -S train.processes={started}",
        )
    if not started and settings.processes > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={settings.processes}"]
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *torchrun, f"--max-restarts={RESTARTS}", *sys.orig_argv[1:]])


def join(device: torch.device) -> None:
    """Meet the other processes, each time that torchrun starts them anew under other names than before."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        attempt = f"attempt {os.environ.get('TORCHELASTIC_RESTART_COUNT')}"
        store, number, count = next(iter(dist.rendezvous("env://")))  # type: ignore[attr-defined]  # of its __init__
        store = dist.PrefixStore(attempt, store)  # type: ignore[attr-defined]
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=number, world_size=count)


def check_same(key: str, device: torch.device) -> None:
    """Raises PipelineError where `key`, which names parameters, data and code, is not that of the first process."""
    if share(key.encode(), device) != key.encode():
        raise PipelineError(
            "this host is to train something else than the first",
            found="other parameters, data or code",
            expected="the same commit, params.yaml and prepared data on all hosts",
            where=f"process {rank()}",
            run="git status; git log -1; dvc repro prepare   # on each host",
        )


def rank() -> int:
    """The number of this process, from 0; that one alone measures, prints and writes."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def add_up(tensor: Tensor) -> Tensor:
    """The sum over all processes, in place; raises PipelineError where one of them is gone."""
    if world() > 1:
        try:
            dist.all_reduce(tensor)
        except RuntimeError as error:
            raise PipelineError(
                "the processes of this training cannot exchange",
                found=error,
                expected=f"{world()} processes, none of them gone",
                where=f"process {rank()}",
                run="dvc repro   # goes on from the checkpoint; torchrun tries it by itself first",
            ) from None
    return tensor


def any_of(flag: bool, device: torch.device) -> bool:
    """Whether it is true in some process, so that all do the same."""
    return flag if world() == 1 else bool(add_up(torch.tensor(float(flag), device=device)) > 0)


def add_up_gradients(net: nn.Module, sums: list[float]) -> list[float]:
    """Sum the gradients over all processes, in place, and return the sums of `sums`: one message a step."""
    if world() == 1:
        return sums
    gradients = [weight.grad for weight in net.parameters() if weight.grad is not None]
    last = torch.tensor(sums, device=gradients[0].device)
    message = add_up(torch.cat([*(gradient.flatten() for gradient in gradients), last]))
    *parts, last = message.split([*(gradient.numel() for gradient in gradients), len(sums)])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))
    result: list[float] = last.tolist()
    return result


def everyones(values: Tensor) -> Tensor:
    """The values float [n] of all processes, whose numbers differ by one at most."""
    count = int(add_up(torch.tensor(len(values), device=values.device)))
    padded = values.new_full((-(-count // world()),), -torch.inf)
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in range(world())]
    dist.all_gather(parts, padded)
    together = torch.cat(parts)
    return together[together != -torch.inf]


def share(content: bytes, device: torch.device) -> bytes:
    """What process 0 has, in every process."""
    size = add_up(torch.tensor(len(content) if rank() == 0 else 0, device=device))
    message = torch.zeros(int(size), dtype=torch.uint8, device=device)
    if rank() == 0 and content:
        message.copy_(torch.frombuffer(bytearray(content), dtype=torch.uint8))
    if len(message):
        dist.broadcast(message, 0)
    return message.cpu().numpy().tobytes()


class _AddUp(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs."""

    @staticmethod
    def forward(_: Any, tensor: Tensor) -> Tensor:  # type: ignore[override]
        return add_up(tensor.clone())

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return add_up(gradient.clone())


class SharedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch normalisation by the whole batch; torch's own SyncBatchNorm is for GPUs alone."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes, x = [0, *range(2, x.ndim)], x.float()
        count = x.new_tensor([x.numel() / x.shape[1]])
        sums = _AddUp.apply(torch.cat([x.sum(axes), (x * x).sum(axes), count]))
        mean, square = (sums[:-1] / sums[-1]).chunk(2)
        variance = (square - mean * mean).clamp(min=0)
        norm: Any = self  # torch types what it remembers as optional
        with torch.no_grad():
            norm.running_mean.lerp_(mean, norm.momentum)
            norm.running_var.lerp_(variance * sums[-1] / (sums[-1] - 1), norm.momentum)
        shape = [1, -1, *[1] * (x.ndim - 2)]
        factor = (variance + self.eps).rsqrt() * self.weight
        normalised: Tensor = (x - mean.view(shape)) * factor.view(shape) + self.bias.view(shape)
        return normalised

    def _check_input_dim(self, _: Tensor) -> None:
        pass


def share_batch_norms(net: nn.Module) -> None:
    """Let all batch normalisations of `net` see the whole batch, where there are several processes."""
    for layer in net.modules() if world() > 1 else ():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.__class__ = SharedBatchNorm  # type: ignore[assignment]  # the same state, another forward pass
