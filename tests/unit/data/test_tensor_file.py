"""Arrays and metadata in safetensors files that record their own SHA-256."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

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
    with pytest.raises(ValueError, match="SafetensorError"):
        load_tensors(path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_file_of_another_program_is_an_error(path: Path, metadata: dict[str, str] | None) -> None:
    save_file({"a": np.zeros(3)}, path, metadata)
    with pytest.raises(ValueError, match="written by another program"):
        load_tensors(path)


@pytest.mark.parametrize("record", ["{}", "[]", "no JSON", '{"about": 1}', "[" * 100_000])
def test_foreign_record_is_an_error(path: Path, record: str) -> None:
    save_file({"a": np.zeros(3)}, path, {"record": record})
    with pytest.raises(ValueError, match="Error"):
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
