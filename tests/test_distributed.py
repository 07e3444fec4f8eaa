"""Several processes through torchrun: the same first steps, a killed worker, and two hosts of network namespaces."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import reduce
from pathlib import Path

import pandas as pd
import psutil
import pytest
import yaml

from tests.conftest import ROOT, Stage, environment, is_block, pipeline, run

TRAIN = yaml.safe_load(pipeline())["stages"]["train"]["cmd"].split()


def configure(folder: Path, **changes: object) -> None:
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["train"] |= {"precision": "fp32", **changes}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.fixture
def prepared(tiny: Path, stage: Stage) -> Path:
    stage("prepare", check=True)
    return tiny


@pytest.mark.parametrize(
    "recipe",
    [
        {"batch_norm": True, "hardest": 1.0},
        {"batch_norm": True, "hardest": 0.5, "label_smoothing": 0.1},
        {"batch_norm": False, "optimizer": "sgd", "learning_rate": 0.005},
    ],
)
def test_the_same_steps(prepared: Path, recipe: dict[str, object], count: Callable[[str], None]) -> None:
    """With 1, 2 and 4 processes the first two steps have one loss within 2e-5, the end nearly the same accuracy."""
    histories = {}
    for processes in (1, 2, 4):
        for epochs in (0.4, 6.0):
            configure(prepared, processes=processes, epochs=epochs, **recipe)
            run(TRAIN, prepared, PYTHONPATH=str(ROOT))
            histories[processes, epochs] = pd.read_csv(prepared / "metrics/history.csv")
    for processes in (2, 4):
        start, end = ((histories[processes, epochs] - histories[1, epochs]).abs() for epochs in (0.4, 6.0))
        assert start["train_loss"].item() < 2e-5
        assert end["learning_rate"].max() == 0
        assert end["validation_accuracy"].iloc[-1] <= 0.05
        count(f"{processes} processes: the loss of the first steps differs by {start['train_loss'].item():.0e}")


def workers(agent: int) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return psutil.Process(agent).children()
    return []


@pytest.mark.parametrize("trials", [1, pytest.param(5, marks=pytest.mark.long)])
def test_a_killed_worker(prepared: Path, trials: int, count: Callable[[str], None]) -> None:
    """Kill -9 one of two: torchrun starts both anew, and they go on from the checkpoint to the end."""
    for _ in range(trials):
        configure(prepared, processes=2, epochs=20.0, checkpoint_seconds=0)
        process = subprocess.Popen(
            TRAIN, cwd=prepared, env=environment(PYTHONPATH=str(ROOT)), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        until = time.monotonic() + 120
        while not list(prepared.glob("data/checkpoints/*/*.checkpoint")):
            assert time.monotonic() < until
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        workers(process.pid)[1].send_signal(signal.SIGKILL)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        assert "going on after step" in said
        assert len(pd.read_csv(prepared / "metrics/history.csv")) == 20
        assert not (prepared / "data/checkpoints").exists()
    count(f"{trials} of {trials} trainings of two processes survived kill -9 of one")


def test_errors_come_once(prepared: Path) -> None:
    """What one process can tell before the others start is said in one block, without torchrun's traceback."""
    configure(prepared, processes=2, batch_size=31)
    assert is_block(run(TRAIN, prepared, check=False, PYTHONPATH=str(ROOT)), "a batch has too few images")


def test_a_diverging_training(prepared: Path) -> None:
    """NaN among the losses of which the hardest are to be chosen: it is what each process says in the end."""
    configure(prepared, processes=2, optimizer="sgd", learning_rate=10, batch_norm=False, epochs=4.0)
    done = run(TRAIN, prepared, check=False, PYTHONPATH=str(ROOT))
    assert "error: training diverged" in done.stderr
    assert "IndexError" not in done.stderr


def test_another_number_than_the_parameter(prepared: Path) -> None:
    """torchrun by hand with two, where the parameters say one: an error, not another result."""
    configure(prepared, processes=1)
    command = ["python", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", *TRAIN[1:]]
    done = run(command, prepared, check=False, PYTHONPATH=str(ROOT))
    assert done.returncode
    assert "torchrun started another number of processes" in done.stderr


@pytest.fixture
def hosts() -> Iterator[dict[str, str]]:
    """Two hosts with an address each, joined by a cable."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and iproute2")
    names = {f"host{os.getpid()}{side}": f"10.99.0.{number}" for number, side in enumerate("ab", start=1)}
    one, two = names
    commands = [f"ip netns add {one}", f"ip netns add {two}"]
    commands += [f"ip link add eth{one[4:]} netns {one} type veth peer name eth{two[4:]} netns {two}"]
    for name, address in names.items():
        commands += [f"ip -n {name} addr add {address}/24 dev eth{name[4:]}"]
        commands += [f"ip -n {name} link set {device} up" for device in (f"eth{name[4:]}", "lo")]
    try:
        for command in commands:
            subprocess.run(command.split(), check=True)
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False)


@pytest.mark.parametrize("same", [True, False])
def test_two_hosts(prepared: Path, hosts: dict[str, str], tmp_path_factory: pytest.TempPathFactory, same: bool) -> None:
    """Each with its own tree and address, by the line of docs/scaling.md: the first writes what one host would have.

    Where the trees are not the same, it says so.
    """
    configure(prepared, processes=2, epochs=2.0)
    run(TRAIN, prepared, PYTHONPATH=str(ROOT))
    alone = pd.read_csv(prepared / "metrics/history.csv")
    shutil.rmtree(prepared / "metrics")
    other = tmp_path_factory.mktemp("other host") / "tree"
    shutil.copytree(prepared, other)
    if not same:
        configure(other, processes=2, epochs=2.0, learning_rate=0.01)
    (documented,) = re.findall(r"(GLOO_SOCKET_IFNAME=.*?)\n```", (ROOT / "docs/scaling.md").read_text(), re.DOTALL)
    processes = []
    for number, (name, folder) in enumerate(zip(hosts, (prepared, other), strict=True)):
        words = {"INTERFACE": f"eth{name[4:]}", "ADDRESS": next(iter(hosts.values())), "rank=0": f"rank={number}"}
        line = reduce(lambda text, word: text.replace(word, words[word]), words, documented)
        processes.append(
            subprocess.Popen(
                ["ip", "netns", "exec", name, "sh", "-c", line],
                cwd=folder,
                env=environment(PYTHONPATH=str(ROOT)),
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
        )
    said = [process.communicate(timeout=120)[0] for process in processes]
    if same:
        assert [process.returncode for process in processes] == [0, 0], said
    else:
        assert "error: this host is to train something else than the first" in said[1]
        return
    pd.testing.assert_frame_equal(pd.read_csv(prepared / "metrics/history.csv"), alone)
    assert not (other / "metrics").exists()
