"""The pictures of the plot stage: arrays and tables in, PNG out; no torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from src.dataset import Dataset
from src.figures import BLUE, GREY, VERMILION, draw_grid, figure
from src.scores import confusion_matrix, wilson_interval


def plot_train_test_metrics(path: Path, history: pd.DataFrame, measured_on: str, dpi: int) -> None:
    """The notebook's 2 x 2: loss above, accuracy below, training left, `measured_on` ("validation" or "test") right."""
    with figure(path, 9, 6, dpi) as drawing:
        drawing.suptitle("Training history", x=0.01, ha="left")
        axes = drawing.subplots(2, 2, sharex=True, sharey="row")
        for column, (split, name, color) in enumerate(
            [("train", "Training", BLUE), ("validation", measured_on.capitalize(), VERMILION)]
        ):
            for row, quantity in enumerate(["loss", "accuracy"]):
                values = history[f"{split}_{quantity}"]
                _draw_curve(axes[row, column], history["epoch"], values, f"{name} {quantity}", color)
        for axis in axes[1]:
            axis.set_xlabel("epoch")
            axis.yaxis.set_major_formatter(PercentFormatter(1.0))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_curve(axis: Axes, epochs: pd.Series, values: pd.Series, title: str, color: str) -> None:
    last = values.iloc[-1]
    shown = f"{last:.2%}" if "accuracy" in title else f"{last:.4f}"
    axis.set_title(f"{title}: {shown}")
    axis.plot(epochs, values, color=color, marker="o", markersize=4)
    axis.margins(x=0.08, y=0.15)


def plot_confusion_matrix(path: Path, matrix: np.ndarray, classes: Sequence[str], dpi: int) -> None:
    """Counts [actual, predicted]: the correct ones in grey, so that the colour shows the mistakes."""
    mistakes = matrix - np.diag(matrix.diagonal())
    side = max(6.5, 0.65 * len(classes) + 1)
    with figure(path, side, side * 0.94, dpi) as drawing:
        axis = drawing.subplots()
        axis.set_title(f"{mistakes.sum():,} mistakes in {matrix.sum():,} test images", pad=12)
        axis.set_facecolor("#F6F7F9")
        axis.imshow(np.ma.masked_equal(mistakes, 0), cmap="Oranges", vmin=0, vmax=max(3, mistakes.max() * 1.3))
        for actual, predicted in np.argwhere(matrix):
            style: Any = {"color": GREY} if actual == predicted else {"fontweight": "bold"}
            axis.text(
                predicted, actual, f"{matrix[actual, predicted]:,}", ha="center", va="center", fontsize=10, **style
            )
        axis.set_xticks(range(len(classes)), classes)
        axis.set_yticks(range(len(classes)), classes)
        axis.set_xticks(np.arange(len(classes) + 1) - 0.5, minor=True)
        axis.set_yticks(np.arange(len(classes) + 1) - 0.5, minor=True)
        axis.tick_params(which="both", length=0)
        axis.grid(visible=False)
        axis.grid(which="minor", color="white", linewidth=2)
        axis.spines[:].set_visible(False)
        axis.set_xlabel("predicted")
        axis.set_ylabel("actual")


def plot_confident_mistakes(path: Path, test: Dataset, predictions: pd.DataFrame, count: int, dpi: int) -> None:
    """The wrong predictions that the model was surest of."""
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    wrong = wrong.sort_values(["confidence", "index"], ascending=[False, True])
    worst = wrong.head(count)
    captions = [
        f"{row.actual} read as {row.predicted}\n{row.confidence:.0%} sure" for row in worst.itertuples(index=False)
    ]
    title = f"The {len(worst)} most confident of {len(wrong)} mistakes"
    draw_grid(path, test.images[worst["index"]], captions, title, columns=8, dpi=dpi)


def plot_per_class_accuracy(path: Path, matrix: np.ndarray, classes: Sequence[str], dpi: int) -> None:
    """Accuracy of each class with its 95 % Wilson interval, and that of all classes as a line."""
    correct, counts = matrix.diagonal(), matrix.sum(axis=1)
    accuracy = correct / counts
    intervals = np.array(
        [wilson_interval(int(right), int(total)) for right, total in zip(correct, counts, strict=True)]
    )
    overall = correct.sum() / counts.sum()
    with figure(path, 9, max(4.0, 0.4 * len(classes) + 1), dpi) as drawing:
        axis = drawing.subplots()
        axis.set_title("Test accuracy by class, with 95 % intervals")
        rows = np.arange(len(classes))
        axis.axvline(overall, color=GREY, linewidth=1, linestyle="--", zorder=1)
        axis.hlines(rows, intervals[:, 0], intervals[:, 1], color=BLUE, linewidth=5, alpha=0.3)
        axis.plot(accuracy, rows, "o", color=BLUE)
        for row, value in zip(rows, accuracy, strict=True):
            axis.annotate(f"{value:.2%}", (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=10)
        axis.annotate(f"all {overall:.2%} ", (overall, -0.7), ha="right", va="center", color="#57606A", fontsize=10)
        axis.set_yticks(rows, classes)
        axis.set_ylim(len(classes) - 0.4, -1.1)
        axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=2))
        axis.grid(visible=False, axis="y")


def confusion_of(predictions: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Counts, int64 [actual, predicted], from the table of predictions with its class names."""
    position = {name: index for index, name in enumerate(classes)}
    actual, predicted = (predictions[column].map(position).to_numpy() for column in ("actual", "predicted"))
    return confusion_matrix(actual, predicted, len(classes))
