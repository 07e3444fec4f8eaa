"""The evaluate stage on tiny data: what it writes, and what it says if model and test set do not fit."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.data.dataset import Dataset, load_split, save_dataset
from src.models.model_file import ModelMetadata, load_model, save_model
from src.params import Normalize
from src.registry import create_model
from tests.helpers import DIGITS, MNIST, edit_params, is_error, run_stage_in

MODEL, TEST = "data/model/model.safetensors", "data/prepared/test.safetensors"


def write_model(folder: Path, network: str = "dash", classes: tuple[str, ...] = DIGITS) -> None:
    """Write a model that was never trained."""
    metadata = ModelMetadata(
        network=network,
        classes=classes,
        input_shape=MNIST,
        dataset="mnist",
        fit="pad",
        normalize=Normalize(mean=[0.1], std=[0.3]),
        test_time_augmentation=False,
        fingerprint={},
    )
    save_model(folder / MODEL, create_model(network, len(classes), MNIST), metadata)


@pytest.fixture
def prepared(tiny: Path) -> Path:
    """The folder after `prepare`, and a model."""
    run_stage_in(tiny, "prepare", check=True)
    write_model(tiny)
    return tiny


def test_evaluate_writes_metrics_and_predictions(prepared: Path) -> None:
    done = run_stage_in(prepared, "evaluate", check=True)
    values = json.loads((prepared / "metrics/evaluate.json").read_text())
    rows = list(csv.DictReader((prepared / "metrics/predictions.csv").read_text().splitlines()))
    assert list(rows[0]) == ["index", "actual", "predicted", "confidence"]
    assert [row["index"] for row in rows] == [str(index) for index in range(110)]
    assert [int(row["actual"]) for row in rows] == load_split(prepared / "data/prepared", "test").labels.tolist()
    accuracy = sum(row["actual"] == row["predicted"] for row in rows) / 110
    assert values["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert done.stdout.startswith(f"test accuracy {accuracy:.4f} (95 % interval 0.")


def test_evaluate_writes_metrics_per_class_and_explains_mistakes(prepared: Path) -> None:
    run_stage_in(prepared, "evaluate", check=True)
    names = ["evaluate.json", "occlusion.png", "per_class.csv", "predictions.csv"]
    assert sorted(path.name for path in (prepared / "metrics").iterdir()) == names
    values = json.loads((prepared / "metrics/evaluate.json").read_text())
    rows = list(csv.DictReader((prepared / "metrics/per_class.csv").read_text().splitlines()))
    assert list(rows[0]) == ["class", "images", "precision", "recall", "f1"]
    assert [(row["class"], row["images"]) for row in rows] == [(digit, "11") for digit in DIGITS]
    assert values["balanced_accuracy"] == pytest.approx(sum(float(row["recall"]) for row in rows) / 10, abs=1e-5)
    assert values["macro_f1"] == pytest.approx(sum(float(row["f1"]) for row in rows) / 10, abs=1e-5)


def test_predictions_name_the_files_of_the_images(prepared: Path) -> None:
    test_set = load_split(prepared / TEST.rpartition("/")[0], "test")
    files = tuple(f"{label}/{index}.png" for index, label in enumerate(test_set.labels))
    save_dataset(prepared / TEST, replace(test_set, files=files))
    run_stage_in(prepared, "evaluate", check=True)
    rows = list(csv.DictReader((prepared / "metrics/predictions.csv").read_text().splitlines()))
    assert list(rows[0]) == ["index", "actual", "predicted", "confidence", "file"]
    assert [row["file"] for row in rows] == list(files)


def test_class_without_test_images_gives_no_nan(prepared: Path) -> None:
    test_set = load_split(prepared / TEST.rpartition("/")[0], "test")
    save_dataset(prepared / TEST, test_set[test_set.labels != 3])
    run_stage_in(prepared, "evaluate", check=True)
    values = json.loads((prepared / "metrics/evaluate.json").read_text())
    assert values["balanced_accuracy"] > 0


def test_equal_runs_write_equal_bytes(prepared: Path) -> None:
    contents = []
    for _ in range(2):
        run_stage_in(prepared, "evaluate", check=True)
        contents.append({path.name: path.read_bytes() for path in (prepared / "metrics").iterdir()})
    assert contents[0] == contents[1]


@pytest.mark.parametrize("network", ["net", "tiny"])
def test_evaluate_takes_the_network_from_the_model_file(prepared: Path, network: str) -> None:
    write_model(prepared, network)
    edit_params(prepared, {"model.name": "dash"})
    run_stage_in(prepared, "evaluate", check=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(b"PK\x03\x04 a zip of torch.save"), "not a file that this pipeline wrote"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "not a file that this pipeline wrote"),
        (lambda path: path.write_bytes(flip_a_bit(path.read_bytes())), "the content has SHA-256"),
    ],
)
def test_missing_or_damaged_model_is_an_error(prepared: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(prepared / MODEL)
    done = run_stage_in(prepared, "evaluate")
    assert is_error(done, f"error: {MODEL} is not a model of this pipeline: {message}")
    assert done.stderr.endswith("\nhint: dvc repro --force --single-item train\n")
    assert not (prepared / "metrics").exists()


def flip_a_bit(content: bytes) -> bytes:
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 4
    return bytes(damaged)


def test_damaged_test_set_is_an_error(prepared: Path) -> None:
    (prepared / TEST).write_bytes(flip_a_bit((prepared / TEST).read_bytes()))
    done = run_stage_in(prepared, "evaluate")
    assert is_error(done, f"error: {TEST} is not a prepared data set: the content has SHA-256")
    assert not (prepared / "metrics").exists()


def test_test_set_of_another_shape_is_an_error(prepared: Path) -> None:
    images = np.zeros((20, 32, 32), np.uint8)
    save_dataset(prepared / TEST, Dataset(images, np.zeros(20, np.uint8), DIGITS))
    done = run_stage_in(prepared, "evaluate")
    assert done.stderr.splitlines() == [
        "error: the model and the test set do not match",
        "       model:    images of shape (1, 28, 28), classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "       test set: images of shape (1, 32, 32), classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "hint: dvc repro --force --single-item train",
    ]
    assert is_error(done)
    assert not (prepared / "metrics").exists()


@pytest.mark.parametrize("classes", [tuple("012345678"), tuple("1023456789"), ("zero", *DIGITS[1:])])
def test_test_set_of_other_classes_is_an_error(prepared: Path, classes: tuple[str, ...]) -> None:
    write_model(prepared, classes=classes)
    done = run_stage_in(prepared, "evaluate")
    assert is_error(
        done, "do not match", f"classes {', '.join(classes)}", "hint: dvc repro --force --single-item train"
    )
    assert not (prepared / "metrics").exists()


def test_evaluation_changes_no_weights(prepared: Path) -> None:
    before = (prepared / MODEL).read_bytes()
    run_stage_in(prepared, "evaluate", check=True)
    assert (prepared / MODEL).read_bytes() == before
    assert load_model(prepared / MODEL)[1].network == "dash"
