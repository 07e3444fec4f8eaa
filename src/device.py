"""Device, precision and threads of a computation. If `compute.device` names a missing device, that is an error."""

import os
import platform
import sys
from dataclasses import dataclass

import torch

from src.params.compute import ComputeParams
from src.runtime.errors import PipelineError
from src.torch_tuning import tune_torch

PORTABLE_ENVIRONMENT = {"ATEN_CPU_CAPABILITY": "avx2", "MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "AVX2"}


@dataclass(frozen=True)
class DeviceSetup:
    """Where a network runs and in which precision it trains: torch.bfloat16 (autocast) or torch.float32."""

    device: torch.device
    precision: torch.dtype

    def autocast(self) -> torch.autocast:
        """Return a context that runs matrix products in `precision`."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == torch.bfloat16)

    @property
    def environment(self) -> dict[str, str | int]:
        """Torch, device, precision and threads: they may change the last bits of a result."""
        cuda = self.device.type == "cuda"
        cpu = f"{self.device.type} {torch.backends.cpu.get_cpu_capability()}"
        return {
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name(self.device) if cuda else cpu,
            "precision": str(self.precision).removeprefix("torch."),
            "threads": torch.get_num_threads(),
        }

    def __str__(self) -> str:
        return ", ".join(f"{key} {value}" for key, value in self.environment.items())


def set_up_device(settings: ComputeParams) -> DeviceSetup:
    """Choose device and precision, set the number of threads. May restart the process.

    On CUDA, use deterministic algorithms where torch has them (other operations print a warning), and no TF32.

    Raises:
        PipelineError: this machine has no such device or precision.
    """
    use_portable_kernels(settings)
    torch.set_num_threads(settings.threads)
    tune_torch()
    device = get_device("cpu" if settings.portable else settings.device)
    if settings.processes > 1 and device.type == "mps":
        device = torch.device("cpu")  # gloo cannot exchange tensors on mps
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))  # torchrun: one GPU per process
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, cuBLAS is not deterministic
        torch.set_deterministic_debug_mode("warn")  # use_deterministic_algorithms would import torch._dynamo
        # this mode would fill each new tensor, to find reads of uninitialized memory
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        torch.backends.cudnn.allow_tf32 = False  # by default, convolutions round float32 to TF32
    return DeviceSetup(device, get_precision(settings, device))


def get_device(name: str = "auto") -> torch.device:
    """Return the device `name`; "auto" is cuda if available, else mps, else cpu.

    Raises:
        PipelineError: torch finds no such device.
    """
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    available = [device for device, is_present in present.items() if is_present]
    if name == "auto":
        name = available[0]
    if name not in available:
        raise PipelineError(
            f"compute.device is {name}, but torch {torch.__version__} finds no such device "
            f"(available: {', '.join(available)})",
            "dvc exp run -S compute.device=auto",
        )
    return torch.device(name)


def get_precision(settings: ComputeParams, device: torch.device) -> torch.dtype:
    """Return the precision of matrix products; "auto" is bfloat16 if the processor has it natively, else float32.

    Raises:
        PipelineError: `compute.precision` is bf16, but it would be emulated, which is many times slower than float32.
    """
    name = "fp32" if settings.portable else settings.precision
    if device.type == "cuda":
        native = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        native = device.type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))
    if name == "bf16" and not native:
        raise PipelineError(
            f"compute.precision is bf16, but this {device.type} device does not support it natively "
            "(AVX512-BF16, or an NVIDIA GPU of the Ampere generation or later)",
            "dvc exp run -S compute.precision=auto",
        )
    return torch.bfloat16 if native and name != "fp32" else torch.float32


def use_portable_kernels(settings: ComputeParams) -> None:
    """Restart with AVX2 kernels if `compute.portable`: they give the same bytes on every x86-64 processor with AVX2.

    The libraries read `PORTABLE_ENVIRONMENT` only when they load. MKL_CBWR=AVX2 would be faster, but its products
    differ between Intel and AMD.

    Raises:
        PipelineError: the processor has no AVX2.
    """
    if not settings.portable:
        return
    if not PORTABLE_ENVIRONMENT.items() <= os.environ.items():
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **PORTABLE_ENVIRONMENT})
    capability = torch.backends.cpu.get_cpu_capability()
    if capability != "AVX2":
        raise PipelineError(
            f"compute.portable needs an x86-64 processor with AVX2, found {platform.machine()} with {capability}",
            "dvc exp run -S compute.portable=false",
        )
