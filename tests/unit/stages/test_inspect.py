"""The inspect stage on tiny data: its report, and what it says if the data are wrong."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from src.data.dataset import SPLITS, load_split, save_dataset
from tests.helpers import edit_params, is_error, run_stage_in

TRAIN, TEST = "data/prepared/train.safetensors", "data/prepared/test.safetensors"


@pytest.fixture
def prepared(tiny: Path) -> Path:
    edit_params(tiny, {"inspect.samples": 5})
    run_stage_in(tiny, "prepare", check=True)
    return tiny


def test_inspect_writes_report_balance_and_samples(prepared: Path) -> None:
    done = run_stage_in(prepared, "inspect", check=True)
    assert done.stdout == "audit passed: 280 train, 50 validation, 110 test images\n"
    names = ["augmented.png", "class_balance.csv", "findings.csv", "inspect.json", "samples.png"]
    assert sorted(path.name for path in (prepared / "metrics").iterdir()) == names
    report = json.loads((prepared / "metrics/inspect.json").read_text())
    assert list(report) == ["classes", "train", "validation", "test", "shared"]
    assert report["train"]["class_counts"] == [28] * 10
    rows = list(csv.reader((prepared / "metrics/class_balance.csv").read_text().splitlines()))
    assert rows[:2] == [["class", "train", "validation", "test"], ["0", "28", "5", "11"]]
    assert (prepared / "metrics/findings.csv").read_text() == "finding,split,file,detail\n"


def test_equal_runs_write_equal_bytes(prepared: Path) -> None:
    contents = []
    for _ in range(2):
        run_stage_in(prepared, "inspect", check=True)
        contents.append({path.name: path.read_bytes() for path in (prepared / "metrics").iterdir()})
    assert contents[0] == contents[1]


def test_wrong_normalization_fails_the_audit_unless_the_weights_are_pretrained(prepared: Path) -> None:
    edit_params(prepared, {"train.normalize": {"mean": [0.9], "std": [0.9]}})
    done = run_stage_in(prepared, "inspect")
    assert is_error(done, "hint: dvc exp run -S train.normalize=auto   # accepts this")
    lines = done.stderr.splitlines()
    assert lines[0] == "error: the audit of data/prepared failed:"
    assert lines[1].startswith("       train: mean of the pixels is [0.")
    assert lines[2].startswith("       train: std of the pixels is [0.")
    edit_params(prepared, {"model.name": "resnet18", "model.pretrained": True})
    run_stage_in(prepared, "inspect", check=True)


def test_findings_are_written_even_if_they_fail_the_audit(prepared: Path) -> None:
    train_set = load_split(prepared / "data/prepared", "train")
    test_set = replace(train_set[:40], files=tuple(f"test/{index}.png" for index in range(40)))
    save_dataset(prepared / TEST, test_set)
    done = run_stage_in(prepared, "inspect")
    assert is_error(
        done,
        "train and test: 40 exact copies of images, expected at most 0: test/0.png equals 0, test/1.png equals 1, ",
        "hint: dvc exp run -S inspect.max_shared=40   # accepts this",
    )
    rows = list(csv.reader((prepared / "metrics/findings.csv").read_text().splitlines()))
    assert rows[-40] == ["shared", "train and test", "test/0.png", "equals 0"]
    assert json.loads((prepared / "metrics/inspect.json").read_text())["shared"]["train and test"] == 40
    edit_params(prepared, {"inspect.max_shared": 40})
    done = run_stage_in(prepared, "inspect", check=True)
    assert (
        done.stdout == "audit passed: 280 train, 50 validation, 40 test images, findings in metrics/findings.csv: 40\n"
    )


def test_color_images_are_drawn_with_every_augmentation(prepared: Path) -> None:
    values = {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "erasing": 1.0, "center_crop": 1.0, "flip": 0.5}
    edit_params(prepared, {f"train.augmentation.{key}": value for key, value in values.items()})
    edit_params(prepared, {"prepare.dataset": "folder", "prepare.channels": 3, "model.name": "resnet18"})
    edit_params(prepared, {"train.normalize": "auto"})
    for split in SPLITS:
        gray = load_split(prepared / "data/prepared", split)
        color = replace(gray, images=np.stack([gray.images] * 3, axis=-1))
        save_dataset(prepared / f"data/prepared/{split}.safetensors", color)
    run_stage_in(prepared, "inspect", check=True)
    assert len(json.loads((prepared / "metrics/inspect.json").read_text())["train"]["mean"]) == 3


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
