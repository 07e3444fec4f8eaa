"""The plot stage on made-up metrics."""

from pathlib import Path

import numpy as np
import pytest

from src.data.dataset import Dataset, save_dataset
from src.runtime.files import write_bytes, write_csv, write_json
from tests.helpers import edit_params, run_stage_in

CLASSES = ("0", "NA", "dog")
SPLIT = {"images": 6, "shape": [28, 28]}
OUTPUTS = ["confusion.png", "curves.png", "mistakes.png", "per_class.png", "reliability.png"]


@pytest.fixture
def evaluated(tiny: Path) -> Path:
    """A folder with a test set of three classes, a model file, and all that train and evaluate write."""
    edit_params(tiny, {"plot.dpi": 40})
    images = np.full((6, 28, 28), 200, np.uint8)
    save_dataset(tiny / "data/prepared/test.safetensors", Dataset(images, np.arange(6, dtype=np.uint8) % 3, CLASSES))
    write_bytes(tiny / "data/model/model.safetensors", b"weights")
    metrics = tiny / "metrics"
    write_json(metrics / "inspect.json", {"train": SPLIT, "validation": SPLIT, "test": SPLIT})
    fingerprint = {"torch": "2.14.1", "device": "cpu", "precision": "float32"}
    write_json(metrics / "train.json", {"parameters": 10, "validation_accuracy": 0.5, "fingerprint": fingerprint})
    evaluation = {"accuracy": 5 / 6, "accuracy_low": 0.4, "accuracy_high": 0.9, "macro_f1": 0.8, "loss": 0.3}
    write_json(metrics / "evaluate.json", evaluation)
    columns = [f"{split}_{metric}" for split in ("train", "validation") for metric in ("loss", "accuracy")]
    write_csv(metrics / "history.csv", ["epoch", *columns], [[1, 0.5, 0.5, 0.5, 0.5], [2, 0.3, 0.8, 0.3, 0.8]])
    predicted = ["0", "NA", "dog", "0", "NA", "NA"]
    rows = [[index, CLASSES[index % 3], guess, 0.9] for index, guess in enumerate(predicted)]
    write_csv(metrics / "predictions.csv", ["index", "actual", "predicted", "confidence"], rows)
    return tiny


def test_plot_writes_five_figures_and_the_model_card(evaluated: Path) -> None:
    run_stage_in(evaluated, "plot", check=True)
    assert sorted(path.name for path in (evaluated / "metrics").glob("*.png")) == OUTPUTS
    card = (evaluated / "metrics/model_card.md").read_text()
    assert "into 3 classes: 0, NA, dog." in card
    assert "| accuracy | 0.8333, 95 % interval 0.4000 to 0.9000 |" in card
    assert "| dog | NA | 1 |" in card


def test_equal_runs_write_equal_bytes(evaluated: Path) -> None:
    contents = []
    for _ in range(2):
        run_stage_in(evaluated, "plot", check=True)
        contents.append([(evaluated / "metrics" / name).read_bytes() for name in OUTPUTS])
    assert contents[0] == contents[1]


def test_class_that_is_never_predicted_is_plotted(evaluated: Path) -> None:
    path = evaluated / "metrics/predictions.csv"
    path.write_text(path.read_text().replace("dog,dog,", "dog,NA,"))
    run_stage_in(evaluated, "plot", check=True)
    assert "| dog | 2 | 0.0000 |" in (evaluated / "metrics/model_card.md").read_text()
