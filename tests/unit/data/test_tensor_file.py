"""Arrays and metadata in safetensors files that record their own SHA-256, mapped into memory."""

import json
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save, save_file

from src.data.tensor_file import explain_damage, load_tensors, save_tensors
from src.runtime.errors import PipelineError

TENSORS = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.array([1], np.uint8), "empty": np.zeros((0, 2))}
METADATA = {"name": "é", "shape": [1, 28, 28], "nested": {"x": None}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of `TENSORS` and `METADATA`."""
    save_tensors(tmp_path / "a.safetensors", TENSORS, METADATA)
    return tmp_path / "a.safetensors"


def test_saved_tensors_are_loaded_unchanged(path: Path) -> None:
    tensors, metadata = load_tensors(path)
    assert metadata == METADATA
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == TENSORS[name].dtype
        assert np.array_equal(tensor, TENSORS[name])


def test_same_content_gives_the_same_bytes(path: Path) -> None:
    before = path.read_bytes()
    save_tensors(path, dict(reversed(TENSORS.items())), METADATA)
    assert path.read_bytes() == before


def test_every_flipped_bit_of_the_content_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    for position in range(len(content) - 25, len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 4
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"the content has SHA-256 [0-9a-f]{64}, but the file records [0-9a-f]{64}"
        ):
            load_tensors(path)


def test_changed_metadata_is_noticed(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"nested", b"nestee"))
    with pytest.raises(ValueError, match="the content has SHA-256"):
        load_tensors(path)


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        load_tensors(tmp_path / "a")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a zip of torch.save", b"\xff" * 100])
def test_other_format_is_an_error(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a file that this pipeline wrote"):
        load_tensors(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_file_of_another_program_is_an_error(path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"a": np.zeros(3)}, path, metadata)
    with pytest.raises(ValueError, match=r"not a file that this pipeline wrote \(KeyError: '(__metadata__|record)'\)"):
        load_tensors(path)


@pytest.mark.parametrize("record", ["{}", "[]", "no JSON", '{"about": 1}', "[" * 100_000])
def test_foreign_record_is_an_error(path: Path, record: str) -> None:
    save_file({"a": np.zeros(3)}, path, {"record": record})
    with pytest.raises(ValueError, match="Error"):
        load_tensors(path)


def read_header(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return the header of a safetensors file, and the items that follow it."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def write_header(path: Path, header: object, items: bytes) -> None:
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + items)


def test_content_equals_what_the_safetensors_library_writes(tmp_path: Path) -> None:
    """For a data set of MNIST's format, byte by byte."""
    random = np.random.default_rng(0)
    tensors = {
        "images": random.integers(0, 256, (20, 28, 28), np.uint8),
        "labels": random.integers(0, 10, 20, np.uint8),
    }
    save_tensors(tmp_path / "a", tensors, {"classes": ["0", "é"]})
    record = read_header(tmp_path / "a")[0]["__metadata__"]
    assert (tmp_path / "a").read_bytes() == save(tensors, record)


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "f2", "u4", "i4", "f4", "u8", "i8", "f8"])
def test_files_are_read_by_the_safetensors_library(tmp_path: Path, dtype: str) -> None:
    tensors = {"b": np.arange(6, dtype=dtype).reshape(2, 3), "a": np.array([1], np.uint8), "c": np.array(7, dtype)}
    save_tensors(tmp_path / "a", tensors, METADATA)
    loaded = load_file(tmp_path / "a")
    assert loaded.keys() == tensors.keys()
    for name, array in tensors.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(loaded[name], array)
        assert np.array_equal(load_tensors(tmp_path / "a")[0][name], array)
    with safe_open(tmp_path / "a", "numpy") as file:
        assert json.loads(file.metadata()["record"])["about"] == METADATA


def test_items_are_aligned(path: Path) -> None:
    for array in load_tensors(path)[0].values():
        assert array.flags["ALIGNED"]


def test_loaded_arrays_can_be_changed_without_changing_the_file(path: Path) -> None:
    before = path.read_bytes()
    tensors, _ = load_tensors(path)
    tensors["b"][:] = 0
    assert path.read_bytes() == before
    assert load_tensors(path)[0]["b"].tolist() == TENSORS["b"].tolist()


def test_loaded_arrays_survive_replacing_and_deleting_the_file(path: Path) -> None:
    tensors, _ = load_tensors(path)
    save_tensors(path, {"b": np.zeros((2, 3), np.float32)}, {})
    path.unlink()
    assert tensors["b"].tolist() == TENSORS["b"].tolist()


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


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "no tensors but the metadata": lambda header: {"__metadata__": header["__metadata__"]},
    "a list": lambda header: [header],
    "a number": lambda header: 1,
    "null": lambda header: None,
    "text": lambda header: "header",
    "metadata is text": lambda header: {**header, "__metadata__": "record"},
    "record is a number": lambda header: {**header, "__metadata__": {"record": 1}},
    "a tensor is a list": lambda header: {**header, "b": []},
    "a tensor has no dtype": lambda header: {**header, "b": {"shape": [2, 3], "data_offsets": [0, 24]}},
    "a tensor has another key": lambda header: {**header, "b": {**header["b"], "path": "/etc/passwd"}},
}
ENTRIES: list[dict[str, object]] = [
    *(
        {"dtype": dtype}
        for dtype in ("", "F", "F1", "F7", "F-32", "F128", "O64", "V64", "S64", "M64", "BOOL", "F32F32")
    ),
    *({"dtype": dtype} for dtype in (5, None, [], {}, "F" + "9" * 5000)),
    *({"shape": shape} for shape in ([2, 2], [2, 4], [-2, -3], [-1], [2.0, 3.0], [2**62, 4], [2**32, 2**32], [2**70])),
    *(
        {"shape": shape}
        for shape in ([0], [0, -1], [0, 2**62], [10**12], [1] * 100, [[2, 3]], ["2", "3"], 6, None, "ab")
    ),
    *({"data_offsets": offsets} for offsets in ([0, 23], [-8, 16], [10**6, 10**6 + 24], [2**63, 2**63])),
    *(
        {"data_offsets": offsets}
        for offsets in ([], [None, 1], [0.5, 24.5], ["0", "24"], 0, {"0": 1}, [24, 0], [2**70, 1])
    ),
    {"dtype": "F64", "shape": [2**40], "data_offsets": [0, 2**43]},
    {"dtype": "U8", "shape": [2**32, 2**32], "data_offsets": [0, 2**64]},
]


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_header_is_an_error(path: Path, case: str) -> None:
    header, items = read_header(path)
    write_header(path, HOSTILE[case](header), items)
    with pytest.raises(ValueError, match=r"not a file that this pipeline wrote|the content has SHA-256"):
        load_tensors(path)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: json.dumps(entry)[:40])
def test_hostile_entry_is_an_error(path: Path, entry: dict[str, object]) -> None:
    """None of them takes memory, reads outside of the file or crashes the process."""
    header, items = read_header(path)
    write_header(path, {**header, "b": {**header["b"], **entry}}, items)
    before = private_bytes()
    with pytest.raises(ValueError, match=r"not a file that this pipeline wrote|the content has SHA-256"):
        load_tensors(path)
    assert private_bytes() - before < 2**24


@pytest.mark.parametrize("size", [0, 2**20, 2**40, 2**63 - 1, 2**63, 2**64 - 1])
def test_false_size_of_the_header_is_an_error(path: Path, size: int) -> None:
    path.write_bytes(size.to_bytes(8, "little") + path.read_bytes()[8:])
    with pytest.raises(ValueError, match="not a file that this pipeline wrote"):
        load_tensors(path)


@pytest.mark.parametrize("cut", [0, 7, 8, 100, -1])
def test_truncated_file_is_an_error(path: Path, cut: int) -> None:
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ValueError, match="not a file that this pipeline wrote"):
        load_tensors(path)


@pytest.mark.parametrize("error", [KeyError("images"), RuntimeError("x"), TypeError("x"), ValueError("x")])
def test_explain_damage_names_the_file_and_the_stage_to_repeat(error: Exception) -> None:
    with pytest.raises(PipelineError) as raised, explain_damage("prepare", Path("a/b"), "a prepared data set"):
        raise error
    assert str(raised.value) == (
        f"error: a/b is not a prepared data set: {error}\nhint: dvc repro --force --single-item prepare"
    )


def test_explain_damage_leaves_errors_of_the_system_alone() -> None:
    with pytest.raises(PermissionError), explain_damage("prepare", Path("a"), "a prepared data set"):
        raise PermissionError
