"""Damaged files by the hundred: a named error each, never a traceback, a hang or a flood of memory."""

import random
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from src.data.dataset import Dataset, load_dataset, save_dataset
from src.models.model_file import Description, load_model, save_model
from src.models.net import Net
from src.params import Normalize, Params, load_params
from src.runtime.errors import PipelineError
from src.sources.download import Source, decode, obtain
from tests.conftest import ROOT, checksums, tiny_idx
from tests.test_training import dataset

MEMORY = 300 * 2**20  # bytes more than the process has
SECONDS = 5  # for one file; a hang kills the process


@pytest.fixture(autouse=True)
def limits() -> Iterator[None]:
    """Another 300 MB of address space at most."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, before[1]))
    yield
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_AS, before)


def mutations(content: bytes, count: int, header: int) -> Iterator[bytes]:
    """Different from `content`, all of them, and every second one in its first `header` bytes."""
    chosen = random.Random(0)
    made = 0
    while made < count:
        signal.alarm(SECONDS)
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


def errors(attempts: Iterator[Callable[[], object]], unchanged: Callable[[object], bool]) -> int:
    """How many attempts raise a PipelineError; any other exception, and any result but an unchanged one, fails."""
    found = 0
    for attempt in attempts:
        try:
            result = attempt()
        except PipelineError:
            found += 1
        else:
            assert unchanged(result)
    return found


def test_idx(tmp_path: Path, count: Callable[[str], None]) -> None:
    """A thousand files of images and labels: refused by their sum; and without one, by their form or read in full."""
    files = tiny_idx()
    sums = checksums(files)
    refused = 0
    for name, content in files.items():
        for mutated in mutations(content, 250, header=16):
            (tmp_path / name).write_bytes(mutated)
            with pytest.raises(PipelineError, match=name):
                obtain(tmp_path, Source((), "", "", {name: sums[name]}))
            refused += errors(
                iter([lambda: decode({**files, name: mutated}, name.split("-")[0], tuple("0123456789"))]),  # noqa: B023
                lambda result: isinstance(result, Dataset) and len(result.images) == len(result.labels),
            )
    assert refused > 300
    count(f"1,000 of 1,000 mutated IDX files are refused by their sum, {refused} of them by their form alone")


def test_safetensors(tmp_path: Path, params: Params, count: Callable[[str], None]) -> None:
    """Two hundred models and data sets: an error each, but where blanks between words of the header have changed."""
    model, data = tmp_path / "model.safetensors", tmp_path / "data.safetensors"
    classes = tuple("0123456789")
    description = Description(
        network="net", classes=classes, normalize=Normalize(mean=0.1, std=0.3), fingerprint={"torch": "x"}
    )
    net, images = Net(10), dataset(20)
    save_model(model, net, description)
    save_dataset(data, images)

    def same_model(result: object) -> bool:
        assert isinstance(result, tuple)
        weights = result[0].state_dict()
        return result[1] == description and all(torch.equal(weights[k], v) for k, v in net.state_dict().items())

    def same_data(result: object) -> bool:
        assert isinstance(result, Dataset)
        return (result.images == images.images).all() and (result.labels == images.labels).all()

    def load(path: Path, mutated: bytes, loader: Callable[[Path], object]) -> Callable[[], object]:
        path.write_bytes(mutated)
        return lambda: loader(path)

    found = errors((load(model, m, load_model) for m in mutations(model.read_bytes(), 100, header=1500)), same_model)
    found += errors((load(data, m, load_dataset) for m in mutations(data.read_bytes(), 100, header=300)), same_data)
    assert found >= 190
    count(f"{found} of 200 mutated safetensors files are an error each, {200 - found} hold the same as before")


def test_params(tmp_path: Path, count: Callable[[str], None]) -> None:
    """Five hundred parameter files: valid ones are read, all others are an error for a person."""
    text, path = (ROOT / "params.yaml").read_bytes(), tmp_path / "params.yaml"

    def load(mutated: bytes) -> Callable[[], object]:
        path.write_bytes(mutated)
        return lambda: load_params(path)

    found = errors((load(m) for m in mutations(text, 500, len(text))), lambda result: isinstance(result, Params))
    assert 100 < found < 500
    count(f"{found} of 500 mutated parameter files are an error each, {500 - found} are valid")
