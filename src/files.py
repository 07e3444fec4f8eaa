"""Files that are whole or absent: written beside their place, then renamed into it."""

import csv
import io
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step, so that a reader or a crash never meets half a file.

    Raises OSError when the folder is read-only or the disk full; the file that was there stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:  # name the file a person knows, not the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        os.unlink(temporary)
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        os.unlink(temporary)
        raise


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text in one step."""
    write_bytes(path, text.encode())


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write JSON with a fixed layout; raises ValueError for NaN or Infinity, which JSON does not have."""
    write_text(path, json.dumps(_rounded(values), indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a header and rows as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_rounded([header, *rows]))
    write_text(path, text.getvalue())


def _rounded(value: Any) -> Any:
    """Every float in a structure to 6 significant digits: far below the noise, and a diff stays readable."""
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
