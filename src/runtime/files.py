"""Atomic writes, stable JSON and CSV, and locks between processes."""

import csv
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout


def write_bytes(path: Path, *parts: bytes | memoryview) -> None:
    """Replace `path` atomically with the concatenated parts: no reader sees a partial file, even after a crash.

    Two processes must not write the same path at a time: stages hold an `exclusive_lock`.

    Raises:
        OSError: the folder is read-only or the disk is full. The previous file is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")  # a fixed name, so that the next run overwrites leftovers of a crash
    try:
        with partial.open("wb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException as error:
        with suppress(OSError):
            partial.unlink()
        if isinstance(error, OSError):  # name the file that the user knows, not the temporary one
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_text(path: Path, text: str) -> None:
    """Replace a UTF-8 text file atomically."""
    write_bytes(path, text.encode())


def write_json(path: Path, values: Mapping[str, object]) -> None:
    """Write JSON with a stable layout and floats of 6 significant digits.

    Raises:
        ValueError: a value is NaN or infinite, which JSON cannot represent.
    """
    write_text(path, json.dumps(_round_floats(values), indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write CSV with floats of 6 significant digits."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(_round_floats([header, *rows]))
    write_text(path, text.getvalue())


def write_table(path: Path, table: Mapping[str, Iterable[object]]) -> None:
    """Write columns of equal length as CSV."""
    write_csv(path, list(table), zip(*table.values(), strict=True))


@contextmanager
def exclusive_lock(path: Path) -> Iterator[None]:
    """Hold a lock file, and wait if another process holds it. The system releases it when the process ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(f"waiting for the process that holds {path}", file=sys.stderr, flush=True)
        held = lock.acquire()
    with held:
        yield


def main_checkout(path: Path) -> Path:
    """Return `path` in the main checkout.

    Queued and temporary experiments run in a copy under `.dvc/tmp/exps`. Even there, DVC_ROOT is the main checkout.
    """
    root = Path(os.environ.get("DVC_ROOT", "")).resolve()
    return root / path if root / ".dvc/tmp/exps" in Path.cwd().resolve().parents else path


def _round_floats(value: Any) -> Any:
    """Round all floats to 6 significant digits, so that diffs stay readable."""
    if isinstance(value, Mapping):
        return {key: _round_floats(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_round_floats(item) for item in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
