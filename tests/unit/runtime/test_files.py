"""Atomic writes, stable JSON and CSV, and locks between processes."""

import subprocess
import sys
from pathlib import Path

import pytest

from src.runtime.files import exclusive_lock, main_checkout, write_bytes, write_csv, write_json, write_text
from tests.helpers import ROOT, environment

HOLD_LOCK = """
import sys
from pathlib import Path
from src.runtime.files import exclusive_lock
with exclusive_lock(Path("a.lock")):
    print("locked", flush=True)
    sys.stdin.read()
"""


def start_lock_holder(folder: Path) -> subprocess.Popen[str]:
    """Start a process that holds a.lock until its standard input is closed."""
    pipe = subprocess.PIPE
    command, env = [sys.executable, "-c", HOLD_LOCK], environment(PYTHONPATH=str(ROOT))
    return subprocess.Popen(command, cwd=folder, env=env, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def test_write_replaces_the_file_and_creates_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "new/a.txt"
    write_text(path, "old")
    write_text(path, "é")
    assert path.read_bytes() == b"\xc3\xa9"
    assert list(path.parent.iterdir()) == [path]


def test_write_that_is_interrupted_keeps_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "a"
    write_bytes(path, b"old")
    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("is_full", [True, False])
def test_full_or_read_only_disk_keeps_the_file_and_is_named(small_disk: Path, is_full: bool) -> None:
    write_bytes(small_disk / "a", b"old")
    if not is_full:
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match="No space left" if is_full else "Read-only file system") as error:
        write_bytes(small_disk / "a", bytes(2**20))
    assert error.value.filename == str(small_disk / "a")
    assert (small_disk / "a").read_bytes() == b"old"
    assert len(list(small_disk.iterdir())) == 1


def test_json_has_six_digits_a_last_newline_and_no_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1 / 3, "a": [2e-9 / 3, 1]})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    assert (tmp_path / "a.json").read_text() == '{\n  "b": 0.333333,\n  "a": [\n    6.66667e-10,\n    1\n  ]\n}\n'


def test_csv_has_six_digits_and_plain_newlines(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", ["a", "b"], [[1, 2 / 3], ["x, y", 0.5]])
    assert (tmp_path / "a.csv").read_bytes() == b'a,b\n1,0.666667\n"x, y",0.5\n'


def test_second_process_waits_for_the_lock(tmp_path: Path) -> None:
    with exclusive_lock(tmp_path / "a.lock"):
        process = start_lock_holder(tmp_path)
        assert process.stderr
        assert process.stderr.readline() == "waiting for the process that holds a.lock\n"
        assert process.poll() is None
    out, err = process.communicate()
    assert (process.returncode, out, err) == (0, "locked\n", "")


def test_lock_of_a_killed_process_is_free(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = start_lock_holder(tmp_path)
    assert process.stdout
    assert process.stdout.readline() == "locked\n"
    process.kill()
    process.communicate()
    with exclusive_lock(tmp_path / "a.lock"):
        assert capsys.readouterr().err == ""


def test_only_experiments_in_a_copy_use_the_main_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiment = tmp_path / ".dvc/tmp/exps/tmp123"
    experiment.mkdir(parents=True)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    for folder, expected in ((experiment, tmp_path / "data/raw"), (tmp_path, Path("data/raw"))):
        monkeypatch.chdir(folder)
        assert main_checkout(Path("data/raw")) == expected
