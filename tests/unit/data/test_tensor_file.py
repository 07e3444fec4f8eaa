"""Arrays and metadata in safetensors files that record their own SHA-256, mapped into memory."""

import json
import re
import resource
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from src.data.tensor_file import load_tensors, read_digest, save_tensors

TENSORS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([1], np.uint8), "empty": np.zeros((0, 2))}
METADATA = {"name": "é", "shape": [1, 28, 28], "nested": {"x": None}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of `TENSORS` and `METADATA`."""
    save_tensors(tmp_path / "a.safetensors", TENSORS, METADATA)
    return tmp_path / "a.safetensors"


def test_saved_tensors_are_loaded_unchanged_and_aligned(path: Path) -> None:
    tensors, metadata = load_tensors(path)
    assert metadata == METADATA
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert np.array_equal(tensor, TENSORS[name])
        assert tensor.flags["ALIGNED"]


def test_same_content_gives_the_same_bytes_and_digest(path: Path) -> None:
    before, digest = path.read_bytes(), read_digest(path)
    save_tensors(path, dict(reversed(TENSORS.items())), METADATA)
    assert path.read_bytes() == before
    save_tensors(path, TENSORS, METADATA | {"name": "e"})
    assert read_digest(path) != digest


def test_every_flipped_bit_of_metadata_and_content_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    for position in (content.index(b"nested"), *range(len(content) - 25, len(content))):
        damaged = bytearray(content)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"the content has SHA-256 .*, but the file records "):
            load_tensors(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04 a zip of torch.save",
        save({"a": np.zeros(3)}),
        save({"a": np.zeros(3)}, {"record": '{"about": 1}'}),
        save({"a": np.zeros(3)}, {"record": "[" * 100_000}),
    ],
)
def test_file_of_another_program_is_an_error(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a file that this pipeline wrote"):
        load_tensors(path)


def test_file_equals_what_the_safetensors_library_writes(tmp_path: Path) -> None:
    dtypes = {"images": "u1", "labels": "u2", "weights": "f4", "batches": "i8"}
    tensors = {name: np.arange(6, dtype=dtype).reshape(2, 3) for name, dtype in dtypes.items()}
    save_tensors(tmp_path / "a", tensors, METADATA)
    content = (tmp_path / "a").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert content == save(tensors, header["__metadata__"])


def test_loaded_arrays_are_independent_of_the_file(path: Path) -> None:
    before, (tensors, _) = path.read_bytes(), load_tensors(path)
    tensors["b"][0] = 7
    assert path.read_bytes() == before
    save_tensors(path, {"b": np.zeros((2, 3), np.float32)}, {})
    path.unlink()
    assert tensors["b"].tolist() == [[7, 7, 7], [3, 4, 5]]


def test_all_tensors_need_one_file_descriptor(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    save_tensors(tmp_path / "a", {str(number): np.zeros(1) for number in range(100)}, {})
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(list(Path("/dev/fd").iterdir())) + 10, before[1]))
    try:
        tensors, _ = load_tensors(tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert len(tensors) == 100


def private_bytes() -> int:
    """Return the private memory of this process, without the page cache."""
    (kilobytes,) = re.findall(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(kilobytes) * 1024


def test_loading_and_saving_copy_nothing_into_memory(tmp_path: Path) -> None:
    images = np.memmap(tmp_path / "images", np.uint8, "w+", shape=(1000, 256, 256))  # 64 MB in a file
    before = private_bytes()
    save_tensors(tmp_path / "a", {"images": images}, {})
    tensors, _ = load_tensors(tmp_path / "a")
    assert tensors["images"].sum() == 0  # reads every page
    assert private_bytes() - before < 8 * 2**20


def test_array_that_is_not_contiguous_is_not_written_wrongly(tmp_path: Path) -> None:
    with pytest.raises((BufferError, ValueError)):
        save_tensors(tmp_path / "a", {"a": np.zeros((4, 4))[:, ::2]}, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "entry",
    [
        {"dtype": "O64"},
        {"shape": [2**62, 4]},
        {"shape": [-2, -3]},
        {"data_offsets": [10**6, 10**6 + 24]},
        {"dtype": "U8", "shape": [2**32, 2**32], "data_offsets": [0, 2**64]},
        {"path": "/etc/passwd"},
    ],
)
def test_hostile_header_is_an_error(path: Path, entry: dict[str, object]) -> None:
    """None of them takes memory, reads outside of the file or crashes the process."""
    content, before = path.read_bytes(), private_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    text = json.dumps(header | {"b": header["b"] | entry}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])
    with pytest.raises(ValueError, match=r"not a file that this pipeline wrote|the content has SHA-256"):
        load_tensors(path)
    assert private_bytes() - before < 2**24
