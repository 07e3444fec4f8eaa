"""The inspect stage on tiny data: its report, and what it says if the data are wrong."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.data.dataset import SPLITS, load_split, save_split
from tests.helpers import edit_params, is_error, run_stage_in

PREPARED, METRICS = Path("data/prepared"), Path("metrics")


@pytest.fixture
def prepared(tiny: Path) -> Path:
    run_stage_in(tiny, "prepare", check=True)
    return tiny


def test_inspect_writes_report_balance_and_samples(prepared: Path) -> None:
    done = run_stage_in(prepared, "inspect", check=True)
    assert done.stdout == "audit passed, findings in metrics/findings.csv: 0\n"
    names = ["class_balance.csv", "findings.csv", "inspect.json", "samples.png"]
    assert sorted(path.name for path in (prepared / METRICS).iterdir()) == names
    report = json.loads((prepared / METRICS / "inspect.json").read_text())
    assert list(report) == ["classes", "train", "test", "cross_split_duplicates"]
    assert report["train"]["class_counts"] == [33] * 10
    rows = list(csv.reader((prepared / METRICS / "class_balance.csv").read_text().splitlines()))
    assert rows[:2] == [["class", "train", "test"], ["0", "33", "11"]]
    assert (prepared / METRICS / "findings.csv").read_text() == "finding,split,item,detail\n"


def test_findings_are_written_even_if_they_fail_the_audit(prepared: Path) -> None:
    train_set = load_split(prepared / PREPARED, "train")
    test_set = replace(train_set[:40], files=tuple(f"test/{index}.png" for index in range(40)))
    save_split(prepared / PREPARED, "test", test_set)
    assert is_error(
        run_stage_in(prepared, "inspect"),
        "train and test: 40 exact copies of images, expected at most 0: test/0.png equals 0, test/1.png equals 1, ",
        "hint: dvc exp run -S inspect.max_cross_split_duplicates=40   # accepts this",
    )
    rows = list(csv.reader((prepared / METRICS / "findings.csv").read_text().splitlines()))
    assert rows[-40] == ["cross_split_duplicates", "train and test", "test/0.png", "equals 0"]
    edit_params(prepared, {"inspect.max_cross_split_duplicates": 40})
    assert run_stage_in(prepared, "inspect", check=True).stdout == (
        "audit passed, findings in metrics/findings.csv: 40\n"
    )


def test_copies_in_a_given_validation_split_fail_the_audit(prepared: Path) -> None:
    pool = load_split(prepared / PREPARED, "train")
    images = pool.images.copy()
    images[-1] = images[0]
    given = (np.arange(len(pool)) >= len(pool) - 40).astype(np.uint8)
    save_split(prepared / PREPARED, "train", replace(pool, images=images, is_validation=given))
    assert is_error(
        run_stage_in(prepared, "inspect"),
        "train and validation: 1 exact copies of images, expected at most 0: 39 equals 0",
        "hint: dvc exp run -S inspect.max_cross_split_duplicates=1   # accepts this",
    )


def test_color_images_are_drawn(prepared: Path) -> None:
    for split in SPLITS:
        gray = load_split(prepared / PREPARED, split)
        color = replace(gray, images=np.stack([gray.images] * 3, axis=-1))
        save_split(prepared / PREPARED, split, color)
    run_stage_in(prepared, "inspect", check=True)
    assert len(json.loads((prepared / METRICS / "inspect.json").read_text())["train"]["mean"]) == 3


def test_flipped_bit_in_the_data_is_noticed(prepared: Path) -> None:
    path = prepared / PREPARED / "train.safetensors"
    *content, last = path.read_bytes()
    path.write_bytes(bytes([*content, last ^ 4]))
    assert is_error(
        run_stage_in(prepared, "inspect"),
        "error: data/prepared/train.safetensors is not a prepared data set: the content has SHA-256",
        "hint: dvc repro --force --single-item prepare",
    )
    assert not (prepared / METRICS).exists()
