"""Hundreds of damaged files: each is an expected error or has valid content, within limits of time and memory."""

import gzip
import random
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from src.data.dataset import load_split, save_split
from src.models.model_file import load_model
from src.runtime.errors import PipelineError
from src.sources.download import DatasetSpec, download
from tests.helpers import DIGITS, random_dataset, save_random_model, sha256_sums, tiny_idx

MAX_BYTES = 300 * 2**20  # more than the process has at the start
MAX_SECONDS = 5  # for one file; then SIGALRM ends the process
Fuzz = Callable[..., int]


def mutate(content: bytes, position: int, chosen: random.Random) -> bytes:
    """Return a variant of `content`, changed at `position`."""
    length = chosen.choice([1, 2, 4, 8, 64])
    before, part, after = content[:position], content[position : position + length], content[position + length :]
    changed = {
        "flip a bit": bytes([part[0] ^ 1 << chosen.randrange(8)]) + part[1:] + after,
        "overwrite": chosen.randbytes(len(part)) + after,
        "largest number": b"\xff" * len(part) + after,
        "delete": after,
        "insert": chosen.randbytes(length) + part + after,
        "repeat": part * chosen.choice([2, 101]) + after,
        "reverse": part[::-1] + after,
        "cut": b"",
    }
    return before + changed[chosen.choice([*changed])]


@pytest.fixture
def fuzz() -> Iterator[Fuzz]:
    """Load mutations of a file. Fail unless each is a PipelineError or valid, and return the number of errors."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MAX_BYTES, before[1]))

    def fuzz(path: Path, load: Callable[[Path], Any], is_valid: Callable[[Any], bool], trials: int, header: int) -> int:
        """Make every second change in the first `header` bytes."""
        content, chosen, errors, done = path.read_bytes(), random.Random(0), 0, 0
        while done < trials:
            end = min(header, len(content)) if done % 2 else len(content)
            if (mutated := mutate(content, chosen.randrange(end), chosen)) == content:
                continue
            done += 1
            path.write_bytes(mutated)
            signal.alarm(MAX_SECONDS)
            try:
                assert is_valid(load(path))
            except PipelineError:
                errors += 1
        return errors

    yield fuzz
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_every_mutation_of_a_raw_file_is_refused(tmp_path: Path, suffix: str, fuzz: Fuzz) -> None:
    """A .gz file may have a different header, but no different content."""
    name, content = "train-labels-idx1-ubyte", tiny_idx()["train-labels-idx1-ubyte"]
    spec = DatasetSpec(classes=list(DIGITS), torchvision="", package="", sha256=sha256_sums({name: content}))
    path = tmp_path / f"{name}{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    refused = fuzz(path, lambda path: download(path.parent, spec), lambda files: files == {name: content}, 200, 16)
    assert refused >= (150 if suffix else 200)


def test_mutated_model_is_an_error_or_unchanged(tmp_path: Path, fuzz: Fuzz) -> None:
    """Only blanks between words of the header may change."""
    path = tmp_path / "model.safetensors"
    save_random_model(path)
    classifier, metadata = load_model(path)

    def is_unchanged(result: Any) -> bool:
        weights = result[0].state_dict()
        return result[1] == metadata and all(weights[name].equal(own) for name, own in classifier.state_dict().items())

    assert fuzz(path, load_model, is_unchanged, 100, 1500) >= 95


def test_mutated_dataset_is_an_error_or_unchanged(tmp_path: Path, fuzz: Fuzz) -> None:
    path, data = tmp_path / "test.safetensors", random_dataset(20)
    save_split(tmp_path, "test", data)

    def is_unchanged(found: Any) -> bool:
        return bool((found.images == data.images).all() and (found.labels == data.labels).all())

    assert fuzz(path, lambda file: load_split(file.parent, "test"), is_unchanged, 100, 300) >= 95
