"""Hundreds of damaged files: each is an expected error or has valid content, within limits of time and memory."""

import random
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from src.data.dataset import Dataset, load_dataset, save_dataset
from src.models.model_file import ModelMetadata, load_model, save_model
from src.params import Normalize, Params, load_params
from src.registry import create_model
from src.runtime.errors import PipelineError
from src.sources.download import decode
from tests.helpers import DIGITS, MNIST, ROOT, random_dataset, tiny_idx

MAX_BYTES = 300 * 2**20  # more than the process has at the start
MAX_SECONDS = 5  # for one file; then SIGALRM ends the process


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """Limit the address space of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MAX_BYTES, before[1]))
    yield
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_AS, before)


def mutations(content: bytes, count: int, header: int) -> Iterator[bytes]:
    """Yield `count` variants of `content`, every second one changed in its first `header` bytes."""
    chosen = random.Random(0)
    made = 0
    while made < count:
        signal.alarm(MAX_SECONDS)
        mutated = bytearray(content)
        end = min(len(content), header) if made % 2 else len(content)
        position = chosen.randrange(end)
        length = chosen.choice([1, 2, 4, 8, 64])
        kind = chosen.choice(["flip", "overwrite", "largest", "delete", "insert", "repeat", "cut", "swap"])
        if kind == "flip":
            mutated[position] ^= 1 << chosen.randrange(8)
        elif kind == "overwrite":
            mutated[position : position + length] = chosen.randbytes(length)
        elif kind == "largest":
            mutated[position : position + length] = b"\xff" * length
        elif kind == "delete":
            del mutated[position : position + length]
        elif kind == "insert":
            mutated[position:position] = chosen.randbytes(length)
        elif kind == "repeat":
            mutated[position:position] = mutated[position : position + length] * chosen.choice([1, 100])
        elif kind == "cut":
            del mutated[position:]
        else:
            other = chosen.randrange(end)
            mutated[position], mutated[other] = mutated[other], mutated[position]
        if mutated != content:
            made += 1
            yield bytes(mutated)


def count_errors(path: Path, variants: Iterator[bytes], load: Callable[[Path], object], is_valid: Callable) -> int:
    """Return how many variants are a PipelineError. Other exceptions and invalid results fail the test."""
    errors = 0
    for content in variants:
        path.write_bytes(content)
        try:
            result = load(path)
        except PipelineError:
            errors += 1
        else:
            assert is_valid(result)
    return errors


def test_mutated_idx_file_is_an_error_or_a_dataset(tmp_path: Path, count: Callable[[str], None]) -> None:
    """Without a checksum, the form of the file decides: damaged pixels are valid, damaged headers are not."""
    files, errors = tiny_idx(), 0
    for name, content in files.items():

        def decode_file(path: Path, name: str = name) -> Dataset:
            return decode({**files, name: path.read_bytes()}, name.split("-")[0], DIGITS)

        variants = mutations(content, 250, header=16)
        errors += count_errors(
            tmp_path / name, variants, decode_file, lambda data: len(data.images) == len(data.labels)
        )
    assert errors > 300
    count(f"{errors} of 1,000 mutated IDX files are an error each, {1000 - errors} have valid images and labels")


def test_mutated_model_is_an_error_or_unchanged(tmp_path: Path, count: Callable[[str], None]) -> None:
    """Only blanks between words of the header may change."""
    path, net = tmp_path / "model.safetensors", create_model("net", 10, MNIST)
    metadata = ModelMetadata(
        network="net",
        classes=DIGITS,
        input_shape=MNIST,
        dataset="mnist",
        fit="pad",
        normalize=Normalize(mean=[0.1], std=[0.3]),
        test_time_augmentation=False,
        fingerprint={"torch": "x"},
    )
    save_model(path, net, metadata)

    def is_unchanged(result: tuple[nn.Module, ModelMetadata]) -> bool:
        weights = result[0].state_dict()
        return result[1] == metadata and all(torch.equal(weights[name], own) for name, own in net.state_dict().items())

    errors = count_errors(path, mutations(path.read_bytes(), 100, header=1500), load_model, is_unchanged)
    assert errors >= 95
    count(f"{errors} of 100 mutated model files are an error each, {100 - errors} are unchanged")


def test_mutated_dataset_is_an_error_or_unchanged(tmp_path: Path, count: Callable[[str], None]) -> None:
    path, data = tmp_path / "data.safetensors", random_dataset(20)
    save_dataset(path, data)

    def is_unchanged(result: Dataset) -> bool:
        return bool((result.images == data.images).all() and (result.labels == data.labels).all())

    errors = count_errors(path, mutations(path.read_bytes(), 100, header=300), load_dataset, is_unchanged)
    assert errors >= 95
    count(f"{errors} of 100 mutated data sets are an error each, {100 - errors} are unchanged")


def test_mutated_params_are_an_error_or_valid(tmp_path: Path, count: Callable[[str], None]) -> None:
    path, text = tmp_path / "params.yaml", (ROOT / "params.yaml").read_bytes()
    variants = mutations(text, 500, header=len(text))
    errors = count_errors(path, variants, load_params, lambda result: isinstance(result, Params))
    assert 100 < errors < 500
    count(f"{errors} of 500 mutated parameter files are an error each, {500 - errors} are valid")
