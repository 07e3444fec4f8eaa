"""Fixtures of the integration tests."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.helpers import run_stage_in, write_tiny_project
from tests.integration.processes import Process, start_process


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest test first. At the end, it would keep only one of several processes busy."""
    items.sort(key=lambda item: item.path.name != "test_sweep.py")


@pytest.fixture(scope="session")
def prepared_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny project after the stage `prepare`. Copy it to change it."""
    folder = tmp_path_factory.mktemp("prepared")
    write_tiny_project(folder)
    run_stage_in(folder, "prepare", check=True)
    return folder


@pytest.fixture
def prepared(prepared_template: Path, tmp_path: Path) -> Path:
    """A copy of the tiny project after the stage `prepare`."""
    return shutil.copytree(prepared_template, tmp_path / "prepared")


@pytest.fixture
def clone(finished_clone: Path, tmp_path: Path) -> Path:
    """A copy of the clone whose pipeline has run."""
    return shutil.copytree(finished_clone, tmp_path / "a clone", symlinks=True)


@pytest.fixture
def experiment(clone_with_experiment: Path, tmp_path: Path) -> Path:
    """A copy of the clone with the experiment `short`."""
    return shutil.copytree(clone_with_experiment, tmp_path / "an experiment", symlinks=True)


@pytest.fixture
def start() -> Iterator[Callable[[list[str], Path], Process]]:
    """Start processes. After the test, kill what is left of them and of their children."""
    processes = []

    def start_and_remember(command: list[str], folder: Path) -> Process:
        processes.append(start_process(command, folder))
        return processes[-1]

    yield start_and_remember
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.stdout and not process.stdout.closed:
            process.communicate()
