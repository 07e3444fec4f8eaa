"""Files that are whole or absent: written beside their place, then renamed into it."""

import csv
import io
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step, so that a reader or a crash never meets half a file.

    Raises OSError when the folder is read-only or the disk full; the file that was there stays as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")  # one name, so that the next run overwrites what a crash leaves
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError):  # name the file a person knows, not the temporary one
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    with suppress(OSError):  # the new name, too, outlives a loss of power, where the file system can promise that
        os.fsync(folder)
    os.close(folder)


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
