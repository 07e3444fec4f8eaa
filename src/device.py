"""What the computation runs on, from the parameters; never a silent fall-back."""

import ctypes
import os
import platform
import sys

import torch

from src.params import Train
from src.runtime.errors import PipelineError

PORTABLE_ENVIRONMENT = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def get_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is CUDA where present, else MPS, else CPU. Raises PipelineError if absent."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, here in present.items() if here)
    if not present[name]:
        raise PipelineError(
            f"there is no {name} device",
            found=f"{', '.join(device for device, here in present.items() if here)} on this machine",
            expected=f"a {name} device that torch {torch.__version__} can use",
            where="params.yaml: train.device",
            run="dvc exp run -S train.device=auto",
        )
    return torch.device(name)


def get_precision(settings: Train, device: torch.device) -> torch.dtype:
    """The number type of the multiplications; "auto" is bfloat16 where the processor has it natively, else float32.

    Emulated bfloat16 is many times slower than float32, so asking for it raises PipelineError.
    """
    name = "fp32" if settings.portable else settings.precision
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    if name == "bf16" and not native:
        raise PipelineError(
            "bfloat16 is not native here",
            found=f"a {device.type} device without it",
            expected="a processor with AVX512-BF16, or a GPU of the Ampere generation or newer",
            where="params.yaml: train.precision",
            run="dvc exp run -S train.precision=auto",
        )
    return torch.bfloat16 if native and name != "fp32" else torch.float32


def prepare_device(settings: Train) -> torch.device:
    """Choose the device, fix the number of threads, and let the C library keep freed memory for the next batch.

    glibc returns large blocks to the system at once, and every batch then pays for fresh pages: without this, training
    takes a third longer (300 against 400 images/s, fp32, batch 512).
    """
    make_portable(settings)
    torch.set_num_threads(settings.threads)
    if platform.libc_ver()[0] == "glibc":
        m_trim_threshold, m_mmap_max = -1, -4  # of <malloc.h>
        libc = ctypes.CDLL(None)
        libc.mallopt(m_mmap_max, 0)
        libc.mallopt(m_trim_threshold, -1)  # never
    name = "cpu" if settings.portable else settings.device
    number = os.environ.get("LOCAL_RANK")  # of this process, where torchrun started it
    if number and name == "auto" and not torch.cuda.is_available():
        name = "cpu"  # processes exchange nothing that lies on MPS
    device = get_device(name)
    if number and device.type == "cuda":
        torch.cuda.set_device(int(number))
    return device


def make_portable(settings: Train) -> None:
    """With `train.portable`, use only what every x86-64 processor with AVX2 has, and leave no choice to who made it.

    The libraries read that when they load, so this process starts anew. MKL_CBWR=AVX2 would be faster, but its products
    differ between Intel and AMD. Raises PipelineError without AVX2.
    """
    if not settings.portable:
        return
    if not PORTABLE_ENVIRONMENT.items() <= os.environ.items():
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **PORTABLE_ENVIRONMENT})
    capability = torch.backends.cpu.get_cpu_capability()
    if capability != "AVX2":
        raise PipelineError(
            "this processor cannot compute what is portable",
            found=f"{platform.machine()} with {capability}",
            expected="an x86-64 processor with AVX2",
            where="params.yaml: train.portable",
            run="dvc exp run -S train.portable=false",
        )


def fingerprint(device: torch.device, precision: torch.dtype) -> dict[str, str | int]:
    """All that may change the last bits of a result beside the code, the data and the parameters."""
    cpu = torch.backends.cpu.get_cpu_capability()
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"{device.type} {cpu}",
        "precision": str(precision).removeprefix("torch."),
        "threads": torch.get_num_threads(),
    }
