"""Arrays in a file that names its own digest: safetensors, so same arrays, same bytes, and nothing is unpickled."""

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


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> None:
    """Write contiguous arrays, and `about` as JSON under one metadata key: the format fixes no order of several."""
    record = {"about": about, "sha256": _digest(tensors, about)}
    write_bytes(path, save(dict(tensors), metadata={"record": json.dumps(record)}))


def load_tensors(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read both back; raises ValueError that says what is wrong: missing, another format, or a bit that has changed.

    Raises OSError where the system refuses to read.
    """
    try:
        with safe_open(path, framework="np") as file:
            if "record" not in (file.metadata() or {}):
                raise ValueError("tensors that another program wrote")
            record = json.loads(file.metadata()["record"])
            about, expected = record["about"], record["sha256"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
            found = _digest(tensors, about)
    except FileNotFoundError:
        raise ValueError("no such file") from None
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"{type(error).__name__}: {error}") from None
    if found != expected:
        raise ValueError(f"content of SHA-256 {found}, where it names {expected}")
    return tensors, about


@contextmanager
def written_by(stage: str, path: Path, what: str) -> Iterator[None]:
    """Within, an error in the content of `path` becomes a PipelineError that names the stage to run again."""
    try:
        yield
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise PipelineError(
            f"{path.name} is not {what}",
            found=error,
            expected=f"what the stage {stage} writes",
            where=path,
            run=f"dvc repro --force --single-item {stage}",
        ) from None


def _digest(tensors: Mapping[str, np.ndarray], about: Mapping[str, Any]) -> str:
    """SHA-256 of all that the file says, its own digest excepted."""
    whole = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for name in sorted(tensors):
        array = tensors[name]
        whole.update(f"{name} {array.dtype} {array.shape}".encode())
        whole.update(array.data)
    return whole.hexdigest()
