"""Draw the history, the mistakes and how far to trust the confidence, and write the model card."""

import hashlib
import json
from pathlib import Path

import pandas as pd

from src.data.dataset import load_dataset
from src.params import Params
from src.reporting.model_card import model_card
from src.reporting.plots import (
    confusion_of,
    plot_confident_mistakes,
    plot_confusion_matrix,
    plot_per_class_accuracy,
    plot_reliability,
    plot_train_test_metrics,
)
from src.runtime.cli import run_stage
from src.runtime.files import write_text


def main(
    params: Params,
    test: Path,
    model: Path,
    inspected: Path,
    trained: Path,
    evaluated: Path,
    history: Path,
    predictions: Path,
    curves: Path,
    confusion: Path,
    mistakes: Path,
    per_class: Path,
    reliability: Path,
    card: Path,
) -> None:
    test_set = load_dataset(test)
    table = pd.read_csv(predictions, dtype={"actual": str, "predicted": str}, keep_default_na=False)
    audit, training, evaluation = (json.loads(path.read_text()) for path in (inspected, trained, evaluated))
    matrix = confusion_of(table, test_set.classes)
    measured_on = "validation" if params.prepare.validation else "test"
    dpi = params.plot.dpi
    plot_train_test_metrics(curves, pd.read_csv(history), measured_on, evaluation, dpi)
    plot_confusion_matrix(confusion, matrix, test_set, table, dpi)
    plot_confident_mistakes(mistakes, test_set, table, params.plot.mistakes, dpi)
    plot_per_class_accuracy(per_class, matrix, test_set.classes, dpi)
    plot_reliability(reliability, table, params.evaluate.calibration_bins, dpi)

    height, width = test_set.images.shape[1:]
    settings = ("optimizer", "learning_rate", "epochs", "batch_size", "seed")
    facts = {
        **training,
        **evaluation,
        **{split: audit[split]["images"] for split in ("train", "validation", "test")},
        **{name: getattr(params.train, name) for name in settings},
        "file": model,
        "digest": hashlib.sha256(model.read_bytes()).hexdigest(),
        "network": params.model.name,
        "measured_on": measured_on,
        "height": height,
        "width": width,
    }
    write_text(card, model_card(facts, matrix, test_set.classes))
    print("wrote", curves, confusion, mistakes, per_class, reliability, card, flush=True)


if __name__ == "__main__":
    run_stage(main)
