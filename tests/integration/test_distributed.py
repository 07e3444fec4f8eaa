"""Training with several processes of torchrun, on one host and on two."""

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest

from tests.helpers import ROOT, Completed, command_of, edit_params, is_error, run, run_stage_in
from tests.integration.processes import Process, checkpoint_files, finish, wait_until

TRAIN = command_of("train")

Start = Callable[[list[str], Path], Process]


@pytest.fixture
def project(prepared: Path) -> Path:
    edit_params(prepared, {"train.precision": "fp32"})
    return prepared


def train(folder: Path, processes: int, **changes: object) -> Completed:
    """Train with changed values of the section `train`."""
    edit_params(folder, {f"train.{key}": value for key, value in {"processes": processes, **changes}.items()})
    if processes == 1:
        return run_stage_in(folder, "train")
    return run(TRAIN, folder, check=False, PYTHONPATH=str(ROOT))


def torchrun(folder: Path) -> Completed:
    """Train with two processes that torchrun starts, as on several hosts."""
    command = ["python", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *TRAIN[1:]]
    return run(command, folder, check=False, PYTHONPATH=str(ROOT))


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "metrics/history.csv")


def test_first_two_steps_have_the_same_loss_with_1_and_4_processes(project: Path, count: Callable[[str], None]) -> None:
    """Without batch norm, only rounding differs."""
    edit_params(project, {"model.name": "net"})
    losses = []
    for processes in (1, 4):
        done = train(project, processes, epochs=0.4, validations=1)
        assert done.returncode == 0, done.stderr
        assert "2 steps of 64 images" in done.stdout
        losses.append(history(project)["train_loss"].item())
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    count(f"4 processes: the loss of the first steps differs by {abs(losses[1] - losses[0]):.0e}")


def workers(agent: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(agent).children()
    return []


@pytest.mark.parametrize("trials", [1, pytest.param(5, marks=pytest.mark.long)])
def test_killed_worker_restarts_from_the_checkpoint(
    project: Path, start: Start, trials: int, count: Callable[[str], None]
) -> None:
    """Kill one of two: torchrun restarts both. The accuracy stays close to an uninterrupted run with one process.

    The difference comes from batch norm, whose statistics are per process.
    """
    assert train(project, processes=1, epochs=20.0).returncode == 0
    accuracy = history(project)["validation_accuracy"].iloc[-1]
    assert accuracy > 0.9
    for _ in range(trials):
        shutil.rmtree(project / "metrics")
        edit_params(project, {"train.processes": 2, "train.epochs": 20.0, "train.checkpoint_seconds": 0})
        process = start(TRAIN, project)
        wait_until(lambda: checkpoint_files(project), process)
        workers(process.pid)[1].send_signal(signal.SIGKILL)
        status, output = finish(process)
        assert status == 0, output
        assert output.count("resuming after step") == 1
        assert "Traceback" not in output
        assert history(project)["epoch"].tolist() == list(range(1, 21))
        assert history(project)["learning_rate"].iloc[-1] < 0.002
        assert history(project)["validation_accuracy"].iloc[-1] == pytest.approx(accuracy, abs=0.06)
        assert not any((project / "data/checkpoints").iterdir())
    count(f"{trials} of {trials} runs of two processes survived kill -9 of one")


def test_two_processes_interrupted_by_ctrl_c_save_their_state(project: Path, start: Start) -> None:
    edit_params(project, {"train.processes": 2, "train.epochs": 20.0, "train.checkpoint_seconds": 0})
    process = start(TRAIN, project)
    wait_until(lambda: checkpoint_files(project), process)
    os.killpg(process.pid, signal.SIGINT)
    status, output = finish(process)
    assert status
    assert "interrupted: the state is saved" in output
    assert not (project / "data/model/model.safetensors").exists()
    status, output = finish(start(TRAIN, project))
    assert status == 0
    assert "resuming after step" in output
    assert history(project)["epoch"].tolist() == list(range(1, 21))


def test_invalid_batch_size_is_reported_once(project: Path) -> None:
    """Without torchrun's traceback: 31 images per batch leave one image in the last batch."""
    done = train(project, processes=2, batch_size=31)
    assert is_error(done, "train.batch_size 31 leaves 1 of 280 images in the last batch, expected at least 2")


def test_diverging_training_of_two_processes_is_an_error(project: Path) -> None:
    """Reported once, and not started again."""
    settings = {"optimizer": "sgd", "learning_rate": 10.0, "momentum": 0.9, "initialization": "kaiming"}
    edit_params(project, {"model.name": "net"})
    done = train(project, processes=2, epochs=4.0, **settings)
    assert is_error(done, "error: training diverged at epoch 0.8 with train.learning_rate 10:")


def test_process_that_is_killed_every_time_is_an_error(tmp_path: Path) -> None:
    launch = ["python", "-m", "src.training.launch", "--standalone", "--nproc-per-node=1"]  # it reads $$ as $
    done = run([*launch, "--no-python", "sh", "-c", "kill -9 $$$$"], tmp_path, check=False, PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    warning = "warning: a training process was killed"
    assert done.stderr.splitlines()[:-1] == [*[warning] * 4, "error: training processes were killed 4 times"]


def test_torchrun_with_another_number_of_processes_is_an_error(project: Path) -> None:
    edit_params(project, {"train.processes": 1})
    done = torchrun(project)
    assert done.returncode
    assert "error: torchrun started 2 processes, but train.processes is 1" in done.stderr
    assert "hint: dvc exp run -S train.processes=2" in done.stderr


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Two network namespaces with an address each, joined by a veth pair."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    names = {f"host{os.getpid()}{side}": f"10.99.0.{number}" for number, side in enumerate("ab", start=1)}
    first, second = names
    commands = [f"ip netns add {first}", f"ip netns add {second}"]
    commands += [f"ip link add eth{first[4:]} netns {first} type veth peer name eth{second[4:]} netns {second}"]
    for name, address in names.items():
        commands += [f"ip -n {name} addr add {address}/24 dev eth{name[4:]}"]
        commands += [f"ip -n {name} link set {device} up" for device in (f"eth{name[4:]}", "lo")]
    try:
        for command in commands:
            run(command.split(), Path.cwd())
        yield names
    finally:
        for name in names:
            run(["ip", "netns", "delete", name], Path.cwd(), check=False)


def train_on_hosts(hosts: dict[str, str], folders: list[Path], start: Start) -> list[tuple[int, str]]:
    """Run the command of docs/scaling.md on each host, and return exit statuses and outputs."""
    text = (ROOT / "docs/scaling.md").read_text()
    (documented,) = re.findall(r"(GLOO_SOCKET_IFNAME=.*?)\n```", text, re.DOTALL)
    assert [word for word in documented.split() if word != "\\"][-len(TRAIN) + 1 :] == TRAIN[1:]
    address, processes = next(iter(hosts.values())), []
    for number, (name, folder) in enumerate(zip(hosts, folders, strict=True)):
        line = documented.replace("INTERFACE", f"eth{name[4:]}").replace("ADDRESS", address)
        line = f"export PYTHONPATH='{ROOT}'; {line.replace('rank=0', f'rank={number}')}"
        processes.append(start(["ip", "netns", "exec", name, "sh", "-c", line], folder))
    return [finish(process) for process in processes]


@pytest.fixture
def other_host(project: Path, tmp_path: Path) -> Path:
    """The project of the second host."""
    edit_params(project, {"train.processes": 2, "train.epochs": 2.0})
    return shutil.copytree(project, tmp_path / "other host")


def test_two_hosts_match_two_processes_on_one_host(
    project: Path, other_host: Path, hosts: dict[str, str], start: Start
) -> None:
    """Only the first host writes."""
    assert train(project, processes=2).returncode == 0
    alone = history(project)
    shutil.rmtree(project / "metrics")
    results = train_on_hosts(hosts, [project, other_host], start)
    assert [status for status, _ in results] == [0, 0], results
    pd.testing.assert_frame_equal(history(project), alone)
    assert not (other_host / "metrics").exists()
    assert not (other_host / "data/checkpoints").exists()


def test_hosts_that_disagree_on_parameters_are_refused(
    project: Path, other_host: Path, hosts: dict[str, str], start: Start
) -> None:
    edit_params(other_host, {"train.learning_rate": 0.01})
    for rank, (status, output) in enumerate(train_on_hosts(hosts, [project, other_host], start)):
        assert status
        assert f"error: hosts disagree on parameters, data or code (process {rank} of 2)" in output
    assert not (project / "data/model/model.safetensors").exists()
