"""Save arrays with JSON metadata as safetensors, and check their SHA-256 when loading. Nothing is unpickled."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from src.runtime.errors import PipelineError
from src.runtime.files import write_bytes


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write contiguous arrays and JSON metadata.

    The metadata is stored under one key, because safetensors does not guarantee the order of several.
    """
    record = {"about": metadata, "sha256": _digest(tensors, metadata)}
    write_bytes(path, save(dict(tensors), metadata={"record": json.dumps(record)}))


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read arrays and metadata, and check the SHA-256.

    Raises:
        ValueError: the file is missing, has another format or has changed.
        OSError: the system cannot read the file.
    """
    try:
        with safe_open(path, framework="np") as file:
            if "record" not in (file.metadata() or {}):
                raise ValueError("written by another program")
            record = json.loads(file.metadata()["record"])
            metadata, expected = record["about"], record["sha256"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            found = _digest(tensors, metadata)
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if found != expected:
        raise ValueError(f"the content has SHA-256 {found}, but the file records {expected}")
    return tensors, metadata


@contextmanager
def explain_damage(stage: str, path: Path, what: str) -> Iterator[None]:
    """Raise PipelineError, with the stage to run again, if the content of `path` is damaged."""
    try:
        yield
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise PipelineError(f"{path} is not {what}: {error}", f"dvc repro --force --single-item {stage}") from None


def _digest(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> str:
    """Return the SHA-256 of metadata, names, dtypes, shapes and bytes."""
    digest = hashlib.sha256(json.dumps(metadata, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
