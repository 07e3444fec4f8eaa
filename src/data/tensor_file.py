"""Save arrays with JSON metadata as safetensors, and map them into memory. Nothing is unpickled.

The library safetensors copies arrays into memory, when writing and when reading. These functions do not, so that a
data set can be larger than memory. The format is the same: 8 bytes for the size of the header, a JSON header, items.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from src.runtime.errors import PipelineError
from src.runtime.files import write_bytes

MAX_HEADER = 100_000_000  # bytes, as in the library safetensors


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write C-contiguous arrays of integers or floats, and JSON metadata."""
    record = {"about": metadata, "sha256": _digest(tensors, metadata)}
    header: dict[str, Any] = {"__metadata__": {"record": json.dumps(record)}}
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0]))  # keeps items aligned
    end = 0
    for name, array in ordered:
        start, end = end, end + array.nbytes
        dtype = f"{array.dtype.kind.upper()}{8 * array.itemsize}"
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    write_bytes(path, len(text).to_bytes(8, "little"), text, *(array.data for _, array in ordered))


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Map arrays into memory, read the metadata, and check the SHA-256. Changes to the arrays stay in memory.

    Raises:
        ValueError: the file is missing, has a different format or is damaged.
        OSError: the system cannot read the file.
    """
    try:
        start, entries, record = _read_header(path)
        metadata, expected = record["about"], record["sha256"]
        content = np.memmap(path, np.uint8, "c")[start:]  # one file descriptor for all tensors
        tensors = {name: _view(content, **entry) for name, entry in entries.items()}
        found = _digest(tensors, metadata)
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except (AttributeError, KeyError, MemoryError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"not a file that this pipeline wrote ({type(error).__name__}: {error})") from None
    if found != expected:
        raise ValueError(f"the content has SHA-256 {found}, but the file records {expected}")
    return tensors, metadata


def read_digest(path: Path) -> str:
    """Return the SHA-256 that a file records. `load_tensors` checks it."""
    return str(_read_header(path)[2]["sha256"])


@contextmanager
def explain_damage(stage: str, path: Path, what: str) -> Iterator[None]:
    """Raise PipelineError, with the stage to run again, if the content of `path` is damaged."""
    try:
        yield
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise PipelineError(f"{path} is not {what}: {error}", f"dvc repro --force --single-item {stage}") from None


def _read_header(path: Path) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Return the position of the first byte after the header, the entries of the tensors, and the record."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(size, MAX_HEADER)))
    record = json.loads(header.pop("__metadata__")["record"])
    return 8 + size, header, record


def _view(content: np.ndarray, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    """Return one tensor as a view of the bytes after the header."""
    kind = np.dtype(f"{dtype[:1].lower()}{int(dtype[1:]) // 8}")
    begin, end = data_offsets
    return np.asarray(content[begin:end].view(kind).reshape(shape))


def _digest(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> str:
    """Return the SHA-256 of metadata, names, dtypes, shapes and bytes."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
