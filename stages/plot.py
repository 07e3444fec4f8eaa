"""Draw the history, the confusion matrix, the most confident mistakes and the accuracy of each class."""

from pathlib import Path

import pandas as pd

from src.charts import (
    confusion_of,
    plot_confident_mistakes,
    plot_confusion_matrix,
    plot_per_class_accuracy,
    plot_train_test_metrics,
)
from src.dataset import load_dataset
from src.params import Params
from src.stage import run_stage


def main(
    params: Params,
    test: Path,
    history: Path,
    predictions: Path,
    curves: Path,
    confusion: Path,
    mistakes: Path,
    per_class: Path,
) -> None:
    test_set = load_dataset(test)
    table = pd.read_csv(predictions, dtype={"actual": str, "predicted": str}, keep_default_na=False)
    matrix = confusion_of(table, test_set.classes)
    measured_on = "validation" if params.prepare.validation else "test"
    dpi = params.plot.dpi
    plot_train_test_metrics(curves, pd.read_csv(history), measured_on, dpi)
    plot_confusion_matrix(confusion, matrix, test_set.classes, dpi)
    plot_confident_mistakes(mistakes, test_set, table, params.plot.mistakes, dpi)
    plot_per_class_accuracy(per_class, matrix, test_set.classes, dpi)
    print(f"drew {', '.join(str(path) for path in (curves, confusion, mistakes, per_class))}", flush=True)


if __name__ == "__main__":
    run_stage(main)
