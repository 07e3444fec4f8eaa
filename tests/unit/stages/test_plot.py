"""The plot stage on made-up metrics."""

from pathlib import Path

import numpy as np
import pytest

from src.data.dataset import Dataset, save_split
from src.data.tensor_file import save_tensors
from src.runtime.files import write_csv, write_json
from tests.helpers import run_stage_in

CLASSES = ("0", "NA", "dog")
FIGURES = ["augmented.png", "confusion.png", "curves.png", "mistakes.png", "reliability.png"]
METADATA = {
    "network": "dash",
    "source": "folder",
    "environment": {"torch": "2.14.1", "device": "cpu", "precision": "float32"},
}


@pytest.fixture
def evaluated(tiny: Path) -> Path:
    """A folder with a test set of three classes, a model file, and all that train and evaluate write."""
    images = np.full((6, 28, 28), 200, np.uint8)
    save_split(tiny / "data/prepared", "test", Dataset(images, np.arange(6, dtype=np.uint8) % 3, CLASSES))
    save_tensors(
        tiny / "data/model/model.safetensors", {}, METADATA | {"run": {"model": {}, "train": {}, "augmentation": {}}}
    )
    first_batch = {"images": images, "labels": np.arange(6) % 3}
    save_tensors(tiny / "data/model/first_batch.safetensors", first_batch, {})
    metrics, split = tiny / "metrics", {"images": 6, "shape": [28, 28]}
    write_json(metrics / "inspect.json", {"train": split, "test": split})
    write_json(
        metrics / "train.json",
        {
            "num_params": 10,
            "train_images": 9,
            "validation_images": 6,
            "train_accuracy": 0.9,
            "validation_accuracy": 0.5,
        },
    )
    evaluation = {"accuracy": 5 / 6, "accuracy_low": 0.4, "accuracy_high": 0.9, "macro_f1": 0.8, "loss": 0.3}
    write_json(metrics / "evaluate.json", evaluation)
    columns = [f"{split}_{metric}" for split in ("train", "validation") for metric in ("loss", "accuracy")]
    write_csv(metrics / "history.csv", ["epoch", *columns], [[1, 0.5, 0.5, 0.5, 0.5], [2, 0.3, 0.8, 0.3, 0.8]])
    rows = [[index, CLASSES[index % 3], predicted, 0.9, 0.1] for index, predicted in enumerate(["0", "NA", "NA"] * 2)]
    write_csv(metrics / "predictions.csv", ["index", "actual", "predicted", "confidence", "probability"], rows)
    write_csv(tiny / "data/model/margins.csv", ["index", "actual", "suggested", "margin"], [[0, "0", "NA", -0.1]])
    return tiny


def test_plot_writes_five_figures_and_the_model_card(evaluated: Path) -> None:
    """The class `dog` is never predicted."""
    run_stage_in(evaluated, "plot", check=True)
    assert sorted(path.name for path in (evaluated / "metrics").glob("*.png")) == FIGURES
    card = (evaluated / "metrics/model_card.md").read_text()
    assert "| accuracy | 0.8333, 95 % interval 0.4000 to 0.9000 |" in card
    assert "| accuracy on 6 validation images" in card
    assert "| dog | 2 | 0.0000 |" in card
    assert "Most frequent confusions: dog → NA (2)." in card
