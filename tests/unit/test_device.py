"""Device, precision and threads, without a silent fallback."""

import os
import sys

import pytest
import torch

from src.device import PORTABLE_ENVIRONMENT, Compute, get_device, get_precision, prepare_compute, use_portable_kernels
from src.params import Params, Train
from src.runtime.errors import PipelineError

CPU = torch.device("cpu")


def settings(params: Params, **changes: object) -> Train:
    return params.train.model_copy(update=changes)


def set_available(monkeypatch: pytest.MonkeyPatch, cuda: bool = False, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(("cuda", "mps", "best"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_is_the_fastest_available_device(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, best: str
) -> None:
    set_available(monkeypatch, cuda, mps)
    assert get_device("auto").type == best
    assert get_device().type == best


def test_missing_device_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    set_available(monkeypatch)
    with pytest.raises(PipelineError) as error:
        get_device("cuda")
    assert str(error.value) == (
        f"error: train.device is cuda, but torch {torch.__version__} finds no such device (available: cpu)\n"
        "hint: dvc exp run -S train.device=auto"
    )


def test_cuda_uses_deterministic_algorithms_and_no_tf32(
    params: Params, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(lambda: torch.set_deterministic_debug_mode("default"))
    request.addfinalizer(lambda: setattr(torch.backends.cudnn, "allow_tf32", True))
    set_available(monkeypatch, cuda=True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    assert prepare_compute(params.train) == Compute(torch.device("cuda"), torch.bfloat16)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (False, False)


@pytest.mark.parametrize(
    ("native", "precision", "portable", "expected"),
    [
        (True, "auto", False, torch.bfloat16),
        (True, "bf16", False, torch.bfloat16),
        (True, "fp32", False, torch.float32),
        (True, "auto", True, torch.float32),
        (False, "auto", False, torch.float32),
        (False, "fp32", False, torch.float32),
    ],
)
def test_precision_is_bfloat16_if_native(
    params: Params, monkeypatch: pytest.MonkeyPatch, native: bool, precision: str, portable: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native})
    assert get_precision(settings(params, precision=precision, portable=portable), CPU) == expected


def test_emulated_bfloat16_is_an_error(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    with pytest.raises(PipelineError, match=r"train\.precision is bf16, but this cpu device does not support it"):
        get_precision(settings(params, precision="bf16"), CPU)


def test_compute_uses_the_train_parameters(params: Params) -> None:
    before = torch.get_num_threads()
    try:
        compute = prepare_compute(settings(params, threads=3, device="cpu", precision="fp32", portable=False))
        fingerprint = compute.fingerprint
    finally:
        torch.set_num_threads(before)
    assert compute == Compute(CPU, torch.float32)
    assert fingerprint == {
        "torch": torch.__version__,
        "device": f"cpu {torch.backends.cpu.get_cpu_capability()}",
        "precision": "float32",
        "threads": 3,
    }


def test_several_processes_train_on_the_cpu_instead_of_mps(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    set_available(monkeypatch, mps=True)
    chosen = settings(params, threads=1, processes=2, device="auto", precision="fp32", portable=False)
    assert prepare_compute(chosen).device == CPU


def test_autocast_runs_products_in_bfloat16() -> None:
    a = torch.ones(2, 2)
    with Compute(CPU, torch.bfloat16).autocast():
        assert (a @ a).dtype == torch.bfloat16
    with Compute(CPU, torch.float32).autocast():
        assert (a @ a).dtype == torch.float32


def test_portable_restarts_with_avx2_kernels(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(os, "execve", lambda *args: calls.append(args) or sys.exit())
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "stages.train", "--model", "m"])
    with pytest.raises(SystemExit):
        use_portable_kernels(settings(params, portable=True))
    ((path, command, environment),) = calls
    assert path == sys.executable
    assert command == [sys.executable, "-m", "stages.train", "--model", "m"]
    assert environment == {**os.environ, **PORTABLE_ENVIRONMENT}
    use_portable_kernels(settings(params, portable=False))
    assert len(calls) == 1


def test_portable_without_avx2_is_an_error(params: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PORTABLE_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    with pytest.raises(PipelineError, match=r"train\.portable needs an x86-64 processor with AVX2, found .* DEFAULT"):
        use_portable_kernels(settings(params, portable=True))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    use_portable_kernels(settings(params, portable=True))
