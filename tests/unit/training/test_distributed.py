"""Two processes that train together, and how they are started."""

import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from src.device import DeviceSetup
from src.models.registry import create_model
from src.params.augmentation import AugmentationParams
from src.params.base import check_sections
from src.params.train import TrainParams
from src.runtime.errors import PipelineError
from src.training import distributed
from src.training.loop import train
from src.training.state import TrainState
from tests.helpers import create_once, parameters, random_dataset

CPU = torch.device("cpu")
SETUP = DeviceSetup(CPU, torch.float32)
# each is off at 0, and 0.5 switches it on
AUGMENTATION = [name for name in AugmentationParams.model_fields if name != "interpolation"]
TRAIN = ["label_smoothing", "weight_decay", "warmup", "momentum", "class_weight"]


def first_steps(switched_on: str) -> tuple[float, list[float], list[int]]:
    """Return the loss of three steps, with all techniques off but one, and margins and rivals of the 24 images."""
    schemas = {"train": TrainParams, "augmentation": AugmentationParams}
    settings, augmentation = check_sections(parameters(), schemas, "tests").values()
    plain = {"epochs": 1.0, "batch_size": 8, "optimizer": "sgd", "schedule": "constant", "learning_rate": 1.0}
    values = {name: 0.5 * (name == switched_on) for name in (*AUGMENTATION, *TRAIN)}
    settings = settings.model_copy(update={**plain, "evaluations": 1, **{name: values[name] for name in TRAIN}})
    augmentation = augmentation.model_copy(update={name: values[name] for name in AUGMENTATION})
    torch.manual_seed(0)
    data = random_dataset(24, side=28, channels=3)
    net = create_model("net", 10, data.image_shape)  # without batch norm, whose statistics are per process
    state = TrainState(net, data, settings, augmentation, SETUP, False)
    (metrics,) = train(state, data)
    margins, rivals = state.margins.mean()
    return metrics["train_loss"], margins.tolist(), rivals.tolist()


def first_loss(switched_on: str) -> float:
    return first_steps(switched_on)[0]


def count_collectives() -> int:
    """Return the number of collectives of three steps, an evaluation and the margins, without those of DDP."""
    with mock.patch.object(dist, "all_reduce", wraps=dist.all_reduce) as all_reduce:
        first_loss("")
    return int(all_reduce.call_count)


def work(rank: int, port: int, folder: Path) -> None:
    """Join two processes, and write what they found to a file."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    try:
        distributed.join_process_group(SETUP, "ab" if rank else "abc")
    except PipelineError as error:
        disagreement = str(error)
    results = {
        "error": disagreement,
        "sum": distributed.all_reduce(torch.tensor([1.0, rank])).tolist(),
        "any": distributed.any_rank(CPU, False, rank == 1),
        "collectives": count_collectives(),
        "margins": first_steps("")[1:],
        "losses": {name: first_loss(name) for name in ("", *AUGMENTATION, *TRAIN)},
    }
    (folder / f"{rank}.json").write_text(json.dumps(results))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of each of two processes."""

    def create(folder: Path) -> None:
        folder.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        mp.spawn(work, (port, folder), nprocs=2)

    folder = create_once(tmp_path_factory, "two processes", create)
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_each_technique_gives_the_same_first_loss_with_one_and_two_processes(found: list[dict[str, Any]]) -> None:
    alone = {name: first_loss(name) for name in found[0]["losses"]}
    assert found[0]["losses"] == pytest.approx(alone, abs=1e-4)
    changes = {name: abs(loss - alone[""]) for name, loss in alone.items() if name}
    assert min(changes.values()) > 1e-3, changes


def test_one_collective_per_step(found: list[dict[str, Any]]) -> None:
    """Three steps, one evaluation, sums of margins and their rivals."""
    assert [result["collectives"] for result in found] == [6, 6]


def test_margins_are_those_of_one_process(found: list[dict[str, Any]]) -> None:
    _, margins, rivals = first_steps("")
    for result in found:
        assert result["margins"] == [pytest.approx(margins, abs=1e-4), rivals]


def test_two_processes_sum(found: list[dict[str, Any]]) -> None:
    for result in found:
        assert (result["sum"], result["any"]) == ([2, 1], [False, True])


def test_hosts_that_disagree_are_an_error(found: list[dict[str, Any]]) -> None:
    message = "error: hosts disagree on parameters, data, code or environment (process {} of 2)"
    assert [result["error"].split("\n")[0] for result in found] == [message.format(rank) for rank in (0, 1)]


@pytest.fixture
def launch(params: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., mock.Mock]:
    """Call `replace_with_torchrun`, and return the fake `os.execve`."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "stages.train", "--model-dir", "m"])
    monkeypatch.setattr(os, "execve", execve := mock.Mock())

    def call(processes: int, device: torch.device = CPU) -> mock.Mock:
        compute = params.compute.model_copy(update={"processes": processes, "threads": 3})
        distributed.replace_with_torchrun(compute, device)
        return execve

    return call


def test_torchrun_starts_several_processes_and_not_again_in_its_workers(
    launch: Callable[..., mock.Mock], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not launch(1).called
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert not launch(2).called
    monkeypatch.delenv("WORLD_SIZE")
    _, command, environment = launch(2).call_args.args
    torchrun = ["-m", "src.training.launch", "--standalone", "--nproc-per-node=2"]
    assert command == [sys.executable, *torchrun, "-m", "stages.train", "--model-dir", "m"]
    assert environment["OMP_NUM_THREADS"] == "3"


def test_wrong_number_of_processes_is_an_error(
    launch: Callable[..., mock.Mock], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(PipelineError) as error:
        launch(4, torch.device("cuda"))
    assert str(error.value) == (
        "error: compute.processes is 4, but torch finds 2 GPUs, and each process needs one\n"
        "hint: dvc exp run -S compute.processes=2"
    )
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(PipelineError) as error:
        launch(1)
    assert str(error.value) == (
        "error: torchrun started 2 processes, but compute.processes is 1\nhint: dvc exp run -S compute.processes=2"
    )


def test_gpu_without_enough_memory_is_an_error() -> None:
    with pytest.raises(PipelineError) as error, distributed.explain_torch_errors(batch_size=32):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of")
    assert str(error.value) == (
        "error: the GPU has too little memory: CUDA out of memory\n"
        "hint: dvc exp run -S train.batch_size=16   # or a smaller model.name"
    )


def test_lost_connection_is_a_silent_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(SystemExit) as end, distributed.explain_torch_errors(32):
        raise RuntimeError("[../gloo/transport/tcp/pair.cc] Connection closed by peer\nmore")
    assert end.value.code == distributed.LOST_CONNECTION


@pytest.mark.parametrize(("processes", "message"), [(1, "gloo"), (2, "shapes cannot be multiplied")])
def test_other_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch, processes: int, message: str) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: processes)
    with pytest.raises(RuntimeError, match=message), distributed.explain_torch_errors(32):
        raise RuntimeError(message)
