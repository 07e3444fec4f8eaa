"""The inspect stage on tiny data: its report, and what it says if the data are wrong."""

import csv
import json
from pathlib import Path

import pytest

from tests.helpers import edit_params, is_error, run_stage_in

TRAIN = "data/prepared/train.safetensors"


@pytest.fixture
def prepared(tiny: Path) -> Path:
    edit_params(tiny, {"inspect.samples": 5})
    run_stage_in(tiny, "prepare", check=True)
    return tiny


def test_inspect_writes_report_balance_and_samples(prepared: Path) -> None:
    done = run_stage_in(prepared, "inspect", check=True)
    assert done.stdout == "audit passed: 280 train, 50 validation, 110 test images\n"
    names = ["augmented.png", "class_balance.csv", "inspect.json", "samples.png"]
    assert sorted(path.name for path in (prepared / "metrics").iterdir()) == names
    report = json.loads((prepared / "metrics/inspect.json").read_text())
    assert list(report) == ["classes", "train", "validation", "test", "shared"]
    assert report["train"]["class_counts"] == [28] * 10
    rows = list(csv.reader((prepared / "metrics/class_balance.csv").read_text().splitlines()))
    assert rows[:2] == [["class", "train", "validation", "test"], ["0", "28", "5", "11"]]


def test_equal_runs_write_equal_bytes(prepared: Path) -> None:
    contents = []
    for _ in range(2):
        run_stage_in(prepared, "inspect", check=True)
        contents.append({path.name: path.read_bytes() for path in (prepared / "metrics").iterdir()})
    assert contents[0] == contents[1]


def test_wrong_normalization_fails_the_audit_with_the_measured_values(prepared: Path) -> None:
    edit_params(prepared, {"train.normalize.mean": 0.9, "train.normalize.std": 0.9})
    done = run_stage_in(prepared, "inspect")
    assert is_error(done, "dvc exp run -S train.normalize.mean=0.")
    lines = done.stderr.splitlines()
    assert lines[0] == "error: the audit of data/prepared failed:"
    assert lines[1].startswith("       train: mean of the pixels is 0.")
    assert lines[2].startswith("       train: std of the pixels is 0.")
    assert not (prepared / "metrics").exists()


def test_flipped_bit_in_the_data_is_noticed(prepared: Path) -> None:
    damaged = bytearray((prepared / TRAIN).read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (prepared / TRAIN).write_bytes(damaged)
    done = run_stage_in(prepared, "inspect")
    assert is_error(done, TRAIN, "the content has SHA-256", "dvc repro --force --single-item prepare")
    assert not (prepared / "metrics").exists()


def test_truncated_data_are_named(prepared: Path) -> None:
    (prepared / TRAIN).write_bytes((prepared / TRAIN).read_bytes()[:-1])
    done = run_stage_in(prepared, "inspect")
    assert is_error(done, f"{TRAIN} is not a prepared data set", "dvc repro --force --single-item prepare")
    assert not (prepared / "metrics").exists()
