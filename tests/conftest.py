"""A tiny data set in MNIST's own format, and a temporary clone of the project that uses it, without network."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from src.params import Params, load_params
from src.sources.idx import write_idx
from tools.verify import recorded_outputs

ROOT = Path(__file__).parents[1]
TRAIN, TEST, VALIDATION = 330, 110, 50  # 330 - 50 = 280 images: an uneven last batch of 24 after four of 64
DEAD = "http://127.0.0.1:9"  # nobody listens on the discard port


def tiny_idx(seed: int = 0) -> dict[str, bytes]:
    """The four files: ten block patterns, each image a noisy, shifted copy of its class's."""
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


def checksums(files: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}


def environment(**more: str) -> dict[str, str]:
    """This environment, with the commands of .venv first, no data source, and no git settings of the user."""
    binaries = str(Path(sys.executable).parent)
    return {
        **{key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "DVC_", "GIT_"))},
        "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
        "DATA_MIRROR": DEAD,
        "PIP_INDEX_URL": DEAD,
        "PIP_CONFIG_FILE": os.devnull,
        "DVC_NO_ANALYTICS": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@example.org",
        "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@example.org",
        **more,
    }


def pipeline() -> str:
    """dvc.yaml as DVC reads it, its one parameter filled in."""
    return (ROOT / "dvc.yaml").read_text().replace("${prepare.dataset}", "mnist")


def write_tiny(folder: Path) -> None:
    """Put the tiny files into data/raw with their sums, and params.yaml beside: one short epoch on them."""
    files = tiny_idx()
    raw = folder / "data/raw/mnist"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    sums = "".join(f"{digest}  {name}\n" for name, digest in checksums(files).items())
    (folder / "data/sources").mkdir(exist_ok=True)
    (folder / "data/sources/mnist").write_text(f"# classes: {', '.join('0123456789')}\n{sums}")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    pixels = np.frombuffer(files["train-images-idx3-ubyte"], np.uint8, offset=16) / 255
    params["prepare"]["validation"] = VALIDATION
    params["train"]["batch_size"] = 64
    params["train"]["threads"] = 1  # two tests run side by side
    params["train"]["normalize"] = {"mean": round(float(pixels.mean()), 3), "std": round(float(pixels.std()), 3)}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def run(command: list[str], folder: Path, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=folder, env=environment(**env), capture_output=True, text=True, timeout=300, check=False
    )
    if check and done.returncode:
        pytest.fail(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def new_clone(folder: Path) -> Path:
    """The project's files as they are now, in a git repository of its own, on the tiny data."""
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], ROOT).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith(("metrics/", "dvc.lock", "data/sources/mnist")):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target)
    write_tiny(folder)
    run(["git", "init", "--quiet", "--initial-branch=main"], folder)
    run(["git", "add", "--all"], folder)
    run(["git", "commit", "--quiet", "--message", "start"], folder)
    return folder


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in a folder with a space in its name, whose pipeline has run once and is committed."""
    folder = new_clone(tmp_path_factory.mktemp("a clone"))
    run(["dvc", "repro"], folder)
    run(["git", "add", "--all"], folder)
    run(["git", "commit", "--quiet", "--message", "first run"], folder)
    return folder


def outputs(folder: Path) -> dict[str, str]:
    """The digest of every output, as dvc.lock records it."""
    return recorded_outputs((folder / "dvc.lock").read_text())


@pytest.fixture
def params() -> Params:
    return load_params(ROOT / "params.yaml")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder with the tiny raw files, their sums and params.yaml, and nothing else."""
    write_tiny(tmp_path)
    return tmp_path


Stage = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def stage(tiny: Path) -> Stage:
    """Run one stage in the folder `tiny`, with its command line as dvc.yaml has it."""
    commands = yaml.safe_load(pipeline())["stages"]

    def call(name: str, check: bool = False, **env: str) -> subprocess.CompletedProcess[str]:
        return run(commands[name]["cmd"].split(), tiny, check=check, PYTHONPATH=str(ROOT), **env)

    return call


def is_block(done: subprocess.CompletedProcess[str], *words: str) -> bool:
    """One block on stderr with all that a person needs, exit status 1, and no traceback."""
    lines = done.stderr.splitlines()
    rows = [line.split(":")[0].strip() for line in lines if line.startswith("  ") and not line.startswith("   ")]
    return (
        done.returncode == 1
        and bool(lines)
        and lines[0].startswith("error: ")
        and rows == ["found", "expected", "where", "run"]
        and all(word in done.stderr for word in words)
    )


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def resize(disk: Path, size: str) -> None:
    """Give `small_disk` another size, as mount writes it: 4k, 64m."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(disk)], check=True)


@pytest.fixture
def count(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Report a number of trials in the summary at the end."""
    return lambda text: record_property("count", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "count" and report.when == "call":
                terminalreporter.write_line(str(value))
