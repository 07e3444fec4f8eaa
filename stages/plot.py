"""Plot the history, the mistakes and the calibration, and write the model card."""

import json
from pathlib import Path

import pandas as pd

from src.data.dataset import load_split
from src.params import Params
from src.reporting import plots
from src.reporting.model_card import model_card
from src.runtime.cli import run_stage
from src.runtime.files import write_text


def main(params: Params, prepared: Path, model: Path, metrics: Path) -> None:
    test_set = load_split(prepared, "test")
    audit, training, evaluation = (
        json.loads((metrics / f"{stage}.json").read_text()) for stage in ("inspect", "train", "evaluate")
    )
    history = pd.read_csv(metrics / "history.csv")
    # class names stay text, even 0 and NA
    predictions = pd.read_csv(
        metrics / "predictions.csv", dtype={"actual": str, "predicted": str}, keep_default_na=False
    )
    confusion = pd.crosstab(predictions["actual"], predictions["predicted"])
    confusion = confusion.reindex(index=test_set.classes, columns=test_set.classes, fill_value=0)
    measured_on = "validation" if params.prepare.validation else "test"
    dpi = params.plot.dpi

    plots.plot_train_test_metrics(metrics / "curves.png", history, measured_on, evaluation, dpi)
    plots.plot_confusion_matrix(metrics / "confusion.png", confusion, test_set, predictions, dpi)
    plots.plot_confident_mistakes(metrics / "mistakes.png", test_set, predictions, params.plot.mistakes, dpi)
    plots.plot_per_class_accuracy(metrics / "per_class.png", confusion, dpi)
    plots.plot_reliability(metrics / "reliability.png", predictions, params.evaluate.calibration_bins, dpi)
    card = metrics / "model_card.md"
    write_text(card, model_card(params, model, audit, training, evaluation, confusion))
    print(f"wrote five plots to {metrics} and the model card to {card}", flush=True)


if __name__ == "__main__":
    run_stage(main, check_model=False)
