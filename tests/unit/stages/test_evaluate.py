"""The evaluate stage on tiny data: what it writes."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest

from src.data.dataset import load_split, save_split
from src.runtime.files import write_text
from tests.helpers import DIGITS, run_stage_in, save_random_model

MODEL, TEST = "data/model/model.safetensors", "data/prepared/test.safetensors"

VALIDATION = "index,actual,predicted,confidence,probability\n5,7,7,0.1,0.1\n8,7,2,0.09,0.01\n"


@pytest.fixture
def prepared(tiny: Path) -> Path:
    """The folder after `prepare`, and a model that was never trained."""
    run_stage_in(tiny, "prepare", check=True)
    save_random_model(tiny / MODEL)
    write_text(tiny / "data/model/validation.csv", VALIDATION)
    return tiny


def read_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_evaluate_writes_metrics_and_predictions(prepared: Path) -> None:
    done = run_stage_in(prepared, "evaluate", check=True)
    names = ["evaluate.json", "per_class.csv", "predictions.csv"]
    assert sorted(path.name for path in (prepared / "metrics").iterdir()) == names
    values = json.loads((prepared / "metrics/evaluate.json").read_text())
    rows = read_rows(prepared / "metrics/predictions.csv")
    assert list(rows[0]) == ["index", "actual", "predicted", "confidence", "probability"]
    assert [row["index"] for row in rows] == [str(index) for index in range(110)]
    assert [int(row["actual"]) for row in rows] == load_split(prepared / "data/prepared", "test").labels.tolist()
    accuracy = sum(row["actual"] == row["predicted"] for row in rows) / 110
    assert values["threshold"] == 0.09
    assert values["coverage"] == pytest.approx(sum(float(row["confidence"]) > 0.09 for row in rows) / 110, abs=1e-6)
    assert values["accuracy"] == pytest.approx(accuracy, abs=1e-6)
    assert done.stdout.startswith(f"test accuracy {accuracy:.4f} (95 % interval 0.")
    rows = read_rows(prepared / "metrics/per_class.csv")
    assert [row["class"] + row["images"] for row in rows] == [f"{digit}11" for digit in DIGITS]
    assert values["balanced_accuracy"] == pytest.approx(sum(float(row["recall"]) for row in rows) / 10, abs=1e-5)


def test_predictions_name_the_files_of_the_images(prepared: Path) -> None:
    test_set = load_split(prepared / "data/prepared", "test")
    files = tuple(f"{label}/{index}.png" for index, label in enumerate(test_set.labels))
    save_split(prepared / "data/prepared", "test", replace(test_set, files=files))
    run_stage_in(prepared, "evaluate", check=True)
    assert [row["file"] for row in read_rows(prepared / "metrics/predictions.csv")] == list(files)
