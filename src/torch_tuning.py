"""Workarounds for the speed and the reproducibility of torch on CPUs."""

import ctypes
import inspect
import platform

import torch
from torch.optim import SGD, AdamW, Optimizer


def tune_torch() -> None:
    """Apply all workarounds. A second call changes nothing."""
    choose_mkl_kernels()
    keep_freed_memory()
    skip_dynamo()


def keep_freed_memory() -> None:
    """Keep glibc from returning large blocks to the system.

    Otherwise every batch pays for new pages: 300 images/s instead of 400 in float32 with batches of 512.
    """
    if platform.libc_ver()[0] == "glibc":
        m_trim_threshold, m_mmap_max = -1, -4  # from malloc.h
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, -1)  # never trim


def skip_dynamo() -> None:
    """Remove the wrappers for torch.compile from the optimizers: they import torch._dynamo, which takes two seconds."""
    for name in ("add_param_group", "state_dict", "load_state_dict"):
        setattr(Optimizer, name, inspect.unwrap(getattr(Optimizer, name)))
    for optimizer in (SGD, AdamW):
        optimizer.step = torch.no_grad()(inspect.unwrap(optimizer.step))  # type: ignore[method-assign]


def choose_mkl_kernels() -> None:
    """Call some functions of MKL once in a single thread.

    MKL chooses the kernel of a function in its first call. If several threads make this call, one of them may run a
    less accurate kernel (https://github.com/pytorch/pytorch/issues/188792). Before, about one in 70 training runs gave
    other bytes.
    """
    for function in (torch.cos, torch.erf, torch.exp, torch.log, torch.sin, torch.sqrt, torch.tan, torch.tanh):
        function(torch.ones(1))
