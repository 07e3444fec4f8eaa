"""Plot the first batch, the history, the mistakes and the calibration, and write the model card."""

import json
from pathlib import Path

import pandas as pd

from src.data.dataset import load_split
from src.data.predictions import read_predictions
from src.data.tensor_file import explain_damage, load_tensors
from src.reporting import plots
from src.reporting.drawing import plot_sample_training_images
from src.reporting.model_card import model_card
from src.runtime.cli import run_stage
from src.runtime.files import write_text


def main(prepared: Path, model_dir: Path, metrics_dir: Path) -> None:
    test_set, model_path = load_split(prepared, "test"), model_dir / "model.safetensors"
    with explain_damage("train", model_path, "a model of this pipeline"):
        _, metadata = load_tensors(model_path)
    batch_path = model_dir / "first_batch.safetensors"
    with explain_damage("train", batch_path, "a batch of this pipeline"):
        first_batch, _ = load_tensors(batch_path)
    names = ("inspect", "train", "evaluate")
    reports = {name: json.loads((metrics_dir / f"{name}.json").read_text()) for name in names}
    history = pd.read_csv(metrics_dir / "history.csv")
    predictions = read_predictions(metrics_dir / "predictions.csv")
    confusion = pd.crosstab(predictions["actual"], predictions["predicted"])
    confusion = confusion.reindex(index=test_set.classes, columns=test_set.classes, fill_value=0)
    unit = "group" if "group" in predictions else "index"  # the images of a group are alike: an interval counts groups
    units = predictions.groupby("actual")[unit].nunique().reindex(test_set.classes, fill_value=0)
    labels = [test_set.classes[label] for label in first_batch["labels"]]
    plot_sample_training_images(metrics_dir / "augmented.png", first_batch["images"], labels, "First batch, augmented")
    plots.plot_train_test_metrics(metrics_dir / "curves.png", history)
    plots.plot_confusion_matrix(metrics_dir / "confusion.png", confusion, test_set, predictions)
    plots.plot_confident_mistakes(metrics_dir / "mistakes.png", test_set, predictions)
    plots.plot_reliability(metrics_dir / "reliability.png", predictions, unit)
    suspicious = int((read_predictions(model_dir / "margins.csv")["margin"] < 0).sum())
    write_text(metrics_dir / "model_card.md", model_card(metadata, model_path, reports, confusion, units, suspicious))
    print(f"wrote five plots and the model card to {metrics_dir}", flush=True)


if __name__ == "__main__":
    run_stage(main)
