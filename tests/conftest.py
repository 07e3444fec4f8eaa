"""Fixtures that several tests share."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from src.params.base import check_sections
from tests.helpers import commit, create_once, new_clone, parameters, run, stages_run, write_tiny_project
from tools.recipes import SCHEMAS


@pytest.fixture
def params() -> SimpleNamespace:
    """The sections of the parameters, by name."""
    return SimpleNamespace(**check_sections(parameters(), SCHEMAS, "tests/params.yaml"))


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with the tiny raw files, their sums and params.yaml, and nothing else."""
    write_tiny_project(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def finished_clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone, in a folder with a space in its name, whose pipeline has run and is committed. Copy it to change it."""

    def create(folder: Path) -> None:
        new_clone(folder)
        run(["dvc", "repro"], folder)
        commit(folder, "first run")

    return create_once(tmp_path_factory, "a finished clone", create)


@pytest.fixture(scope="session")
def clone_with_experiment(finished_clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished clone after the experiment `short`. Copy it to change it.

    It trains five steps, at a learning rate that only YAML 1.2 reads as a number.
    """

    def create(folder: Path) -> None:
        shutil.copytree(finished_clone, folder, symlinks=True)
        changes = ["-S", "train.epochs=1", "-S", "train.learning_rate=1e-3"]
        done = run(["dvc", "exp", "run", "--name", "short", *changes], folder)
        assert "prepare" not in stages_run(done.stdout)

    return create_once(tmp_path_factory, "a clone with an experiment", create)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
