"""Training with several processes of torchrun, on one host and on two."""

import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
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
    edit_params(prepared, {"compute.precision": "fp32", "compute.processes": 2, "train.evaluations": 1})
    return prepared


def train(folder: Path) -> Completed:
    return run(TRAIN, folder, check=False, PYTHONPATH=str(ROOT))


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "metrics/history.csv")


def test_first_two_steps_have_the_same_loss_with_1_and_4_processes(project: Path) -> None:
    """Without batch norm, only rounding differs."""
    edit_params(project, {"model.name": "net", "train.epochs": 0.4, "compute.processes": 1})
    run_stage_in(project, "train", check=True)
    alone = history(project)["train_loss"].item()
    edit_params(project, {"compute.processes": 4})
    assert train(project).returncode == 0
    assert history(project)["train_loss"].item() == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (signal.SIGINT, "error: interrupted: the state is saved\n"),
        (signal.SIGKILL, "error: a training process was killed or lost its connection\nhint: dvc repro   # resumes\n"),
    ],
    ids=["Ctrl-C", "one is killed"],
)
def test_interrupted_training_of_two_processes_resumes(
    project: Path, start: Start, number: signal.Signals, message: str
) -> None:
    """Press Ctrl-C, or kill one process: the other one exits silently."""
    edit_params(project, {"train.epochs": 20, "train.evaluations": 100})
    process = start(TRAIN, project)
    wait_until(lambda: checkpoint_files(project), process)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        psutil.Process(process.pid).children()[1].send_signal(number)
    status, output = finish(process)
    assert status
    assert message in output
    assert not (project / "data/model/model.safetensors").exists()
    status, output = finish(start(TRAIN, project))
    assert status == 0
    assert output.count("resuming after step") == 1
    assert len(history(project)) == 100
    assert history(project)["validation_accuracy"].iloc[-1] > 0.9


def test_diverging_training_of_two_processes_is_reported_once(project: Path) -> None:
    settings = {"optimizer": "sgd", "learning_rate": 10.0, "momentum": 0.9, "epochs": 4, "evaluations": 5}
    edit_params(project, {"model.name": "net", **{f"train.{key}": value for key, value in settings.items()}})
    assert is_error(train(project), "error: training diverged with train.learning_rate 10: epoch ")


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
    assert " ".join(TRAIN[1:]) in documented.replace("\\\n  ", "")
    address, processes = next(iter(hosts.values())), []
    for number, (name, folder) in enumerate(zip(hosts, folders, strict=True)):
        line = documented.replace("INTERFACE", f"eth{name[4:]}").replace("ADDRESS", address)
        line = f"export PYTHONPATH='{ROOT}'; {line.replace('rank=0', f'rank={number}')}"
        processes.append(start(["ip", "netns", "exec", name, "sh", "-c", line], folder))
    return [finish(process) for process in processes]


def test_two_hosts_match_two_processes_on_one_host(
    project: Path, tmp_path: Path, hosts: dict[str, str], start: Start
) -> None:
    """Only the first host writes metrics and the model. Hosts with different parameters are refused."""
    assert train(project).returncode == 0
    alone = history(project)
    shutil.rmtree(project / "metrics")
    other_host = shutil.copytree(project, tmp_path / "other host")
    results = train_on_hosts(hosts, [project, other_host], start)
    assert [status for status, _ in results] == [0, 0], results
    pd.testing.assert_frame_equal(history(project), alone)
    assert not (other_host / "metrics").exists()
    edit_params(other_host, {"train.learning_rate": 0.01})
    for rank, (status, output) in enumerate(train_on_hosts(hosts, [project, other_host], start)):
        assert status
        assert f"error: hosts disagree on parameters, data, code or environment (process {rank} of 2)" in output
