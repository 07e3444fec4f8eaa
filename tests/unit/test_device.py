"""Device, precision and threads, without a silent fallback."""

import os
import sys
from collections.abc import Iterator

import pytest
import torch

from src.device import PORTABLE_ENVIRONMENT, DeviceSetup, get_device, get_precision, set_up_device, use_portable_kernels
from src.params.compute import ComputeParams
from src.runtime.errors import PipelineError

CPU = torch.device("cpu")


def compute(**changes: object) -> ComputeParams:
    defaults = {"device": "auto", "precision": "auto", "threads": 1, "processes": 1, "portable": False}
    return ComputeParams(**{**defaults, **changes})


def set_available(monkeypatch: pytest.MonkeyPatch, cuda: bool = False, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(("cuda", "mps", "best"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_is_the_fastest_available_device(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, best: str
) -> None:
    set_available(monkeypatch, cuda, mps)
    assert get_device().type == best
    if best == "mps":  # gloo cannot exchange its tensors
        assert set_up_device(compute(processes=2)).device == CPU


def test_missing_device_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    set_available(monkeypatch)
    with pytest.raises(PipelineError, match=r"compute\.device is mps"):
        set_up_device(compute(device="mps", processes=2))
    with pytest.raises(PipelineError) as error:
        get_device("cuda")
    assert str(error.value) == (
        f"error: compute.device is cuda, but torch {torch.__version__} finds no such device (available: cpu)\n"
        "hint: dvc exp run -S compute.device=auto"
    )


@pytest.fixture
def torch_settings() -> Iterator[None]:
    """Restore what a test changes in torch."""
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_num_threads(threads)
    torch.backends.cudnn.allow_tf32 = tf32
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.set_deterministic_debug_mode("default")


@pytest.mark.usefixtures("torch_settings")
def test_cuda_uses_deterministic_algorithms_and_no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    set_available(monkeypatch, cuda=True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(os, "environ", {})
    assert set_up_device(compute()) == DeviceSetup(torch.device("cuda"), torch.bfloat16)
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    assert os.environ == {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (False, False)


@pytest.mark.usefixtures("torch_settings")
def test_environment_names_what_changes_the_last_bits() -> None:
    setup = set_up_device(compute(threads=3, device="cpu", precision="fp32"))
    assert setup == DeviceSetup(CPU, torch.float32)
    assert setup.environment == {
        "torch": torch.__version__,
        "device": f"cpu {torch.backends.cpu.get_cpu_capability()}",
        "precision": "float32",
        "threads": 3,
    }


@pytest.mark.parametrize(
    ("native", "changes", "expected"),
    [
        (True, {}, torch.bfloat16),
        (True, {"precision": "fp32"}, torch.float32),
        (True, {"portable": True}, torch.float32),
        (False, {}, torch.float32),
    ],
)
def test_precision_is_bfloat16_if_native(
    monkeypatch: pytest.MonkeyPatch, native: bool, changes: dict[str, object], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    assert get_precision(compute(**changes), CPU) == expected
    if not native:  # emulation is many times slower than float32
        with pytest.raises(PipelineError, match=r"compute\.precision is bf16, but this cpu device does not support it"):
            get_precision(compute(precision="bf16"), CPU)


def test_portable_restarts_with_avx2_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(os, "execve", lambda *args: calls.append(args) or sys.exit())
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "stages.train", "--model-dir", "m"])
    use_portable_kernels(compute(portable=False))
    with pytest.raises(SystemExit):
        use_portable_kernels(compute(portable=True))
    command = [sys.executable, "-m", "stages.train", "--model-dir", "m"]
    assert calls == [(sys.executable, command, {**os.environ, **PORTABLE_ENVIRONMENT})]


def test_portable_without_avx2_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PORTABLE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    use_portable_kernels(compute(portable=True))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    with pytest.raises(PipelineError, match=r"compute\.portable needs an x86-64 processor with AVX2, found .* DEFAULT"):
        use_portable_kernels(compute(portable=True))
