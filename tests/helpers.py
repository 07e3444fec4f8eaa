"""A tiny data set in MNIST's format, clones of the project that use it, and ways to run stages and commands."""

import contextlib
import hashlib
import importlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock

from src.data.dataset import Dataset
from src.models.inference import Classifier
from src.models.model_file import save_model
from src.models.registry import create_model
from src.params.base import load_yaml
from src.preprocessing import Normalization
from src.runtime.cli import run_stage
from src.runtime.signals import SIGNALS
from src.sources.idx import write_idx
from tests.stage_checks import load_stages
from tools.recipes import override

ROOT = Path(__file__).parents[1]
TRAIN, TEST = 330, 110  # with 50 validation images, 280 training images: four batches of 64 and one of 24
UNREACHABLE = "http://127.0.0.1:9"  # the discard port
DIGITS = tuple("0123456789")
MNIST = (1, 28, 28)  # channels, height, width

Completed = subprocess.CompletedProcess[str]


def random_dataset(count: int, seed: int = 0, side: int = 28, channels: int = 1) -> Dataset:
    """Return `count` images of noise with labels 0 to 9 in turn."""
    shape = (count, side, side) if channels == 1 else (count, side, side, channels)
    images = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    return Dataset(images, (np.arange(count) % 10).astype(np.uint8), DIGITS)


def save_random_model(
    path: Path,
    network: str = "dash",
    classes: tuple[str, ...] = DIGITS,
    shape: tuple[int, int, int] = MNIST,
    source: str = "mnist",
    fit: str = "crop",
) -> None:
    """Write a model that was never trained."""
    torch.manual_seed(0)
    channels, height, width = shape
    normalize = Normalization(mean=[0.3] * channels, std=[0.2] * channels)
    images = np.zeros((1, height, width, 3)[: 4 if channels == 3 else 3], np.uint8)
    save_model(
        path,
        Classifier(create_model(network, len(classes), shape), normalize, test_time_augmentation="none"),
        Dataset(images, np.zeros(1, np.uint8), classes, source=source, fit=fit),
        environment={},
        run={"model": {"name": network}},
    )


def tiny_idx(seed: int = 0) -> dict[str, bytes]:
    """Return MNIST's four files with ten block patterns: each image is a noisy, shifted copy of its class."""
    random = np.random.default_rng(seed)
    patterns = np.kron(random.random((10, 5, 5)) < 0.5, np.ones((4, 4)))
    files = {}
    for prefix, count in (("train", TRAIN), ("t10k", TEST)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.zeros((count, 28, 28))
        images[:, 4:24, 4:24] = patterns[labels] * random.uniform(80, 255, (count, 20, 20))
        for image in images:
            image[:] = np.roll(image, random.integers(-2, 3, 2), axis=(0, 1))
        files[f"{prefix}-images-idx3-ubyte"] = write_idx(images.astype(np.uint8))
        files[f"{prefix}-labels-idx1-ubyte"] = write_idx(labels)
    return files


def sha256_sums(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def parameters() -> dict[str, Any]:
    """Return params.yaml with the values of tests/params.yaml: tests pass whatever a project changes in the first."""
    values, fixed = (load_yaml((ROOT / name).read_text()) for name in ("params.yaml", "tests/params.yaml"))
    return {section: keys | fixed.get(section, {}) for section, keys in values.items()}


def write_tiny_project(folder: Path) -> None:
    """Write the tiny raw files, their SHA-256 sums and a params.yaml that trains on them for seconds."""
    files = tiny_idx()
    raw = folder / "data/raw/mnist"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    (folder / "data/sources").mkdir(exist_ok=True)
    spec = load_yaml((ROOT / "data/sources/mnist").read_text()) | {"sha256": sha256_sums(files)}
    (folder / "data/sources/mnist").write_text(json.dumps(spec))
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters(), sort_keys=False))


def edit_params(folder: Path, changes: dict[str, Any]) -> None:
    """Set values of params.yaml by dotted key."""
    path = folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    override(params, changes)
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def environment(**more: str) -> dict[str, str]:
    """Return this environment with .venv first on PATH, no data source, no user settings of git, pip and DVC."""
    binaries = str(Path(sys.executable).parent)
    person = {"NAME": "test", "EMAIL": "test@example.org"}
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "DVC_", "GIT_"))},
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "DATA_MIRROR": UNREACHABLE,
        "PIP_INDEX_URL": UNREACHABLE,
        "PIP_CONFIG_FILE": os.devnull,
        "DVC_NO_ANALYTICS": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        **{f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in person.items()},
        **more,
    }


def run(command: list[str], folder: Path, check: bool = True, **env: str) -> Completed:
    """Run a command in `folder`, and fail the test if it fails."""
    done = subprocess.run(
        command, cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=300, check=False
    )
    if check and done.returncode:
        pytest.fail(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def stages_run(output: str) -> list[str]:
    """Return the stages that `dvc` says it ran."""
    return re.findall(r"^Running stage '(\w+)'", output, re.MULTILINE)


def recorded_outputs(folder: Path) -> dict[str, str]:
    """Return the MD5 of every output in dvc.lock."""
    stages = load_yaml((folder / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


def command_of(stage: str) -> list[str]:
    """Return the command line that dvc.yaml gives for a stage."""
    words: list[str] = load_stages(ROOT)[stage]["cmd"].split()
    return words


def run_stage_in(folder: Path, stage: str, check: bool = False) -> Completed:
    """Run a stage in this process, in `folder`, with the command line of dvc.yaml: no start-up time."""
    command = command_of(stage)
    out, err, status = io.StringIO(), io.StringIO(), 0
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(sys, "argv", [f"{stage}.py", *command[3:]]),
        mock.patch.dict(os.environ, environment(), clear=True),
    ):
        try:
            run_stage(importlib.import_module(f"stages.{stage}").main)
        except SystemExit as end:
            status = int(end.code or 0)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    if check and status:
        pytest.fail(f"stage {stage}: exit {status}\n{out.getvalue()}\n{err.getvalue()}")
    return subprocess.CompletedProcess(command, status, out.getvalue(), err.getvalue())


def is_error(done: Completed, *words: str) -> bool:
    """Return whether a run ended with one `error:` and one `hint:`, all of `words`, status 1 and no traceback."""
    lines = done.stderr.splitlines()
    return (
        done.returncode == 1
        and [line.split(":")[0] for line in lines if not line.startswith(" ")] == ["error", "hint"]
        and all(word in done.stderr for word in words)
    )


def new_clone(folder: Path) -> Path:
    """Copy the project's current files into a new git repository that uses the tiny data set."""
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], ROOT).stdout.splitlines()
    skipped = ("metrics/", "dvc.lock", "data/sources/mnist", "params.yaml")
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith(skipped):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    write_tiny_project(folder)
    run(["git", "init", "--quiet", "--initial-branch=main"], folder)
    commit(folder, "start")
    return folder


def commit(folder: Path, message: str) -> None:
    """Commit all files of a clone."""
    run(["git", "add", "--all"], folder)
    run(["git", "commit", "--quiet", "--message", message], folder)


def create_once(factory: pytest.TempPathFactory, name: str, create: Callable[[Path], object]) -> Path:
    """Return a folder that all pytest-xdist workers share. The first one that needs it creates it."""
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    finished = root / f"{name}.finished"
    with FileLock(root / f"{name}.lock"):
        if not finished.exists():
            shutil.rmtree(root / name, ignore_errors=True)
            create(root / name)
            finished.touch()
    return root / name


def labels_of(*sizes: int) -> np.ndarray:
    """Return labels in the order of classes, `sizes` of each."""
    return np.repeat(np.arange(len(sizes), dtype=np.uint8), sizes)
