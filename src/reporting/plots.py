"""The pictures of the plot stage: arrays and tables in, PNG out; no torch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, PercentFormatter

from src.data.dataset import Dataset
from src.drawing import BLUE, GREY, VERMILION, draw_grid, figure
from src.metrics import confidence_bins, confusion_matrix, wilson_interval

SHORT = 5  # letters of a class name that has room beside others


def plot_train_test_metrics(
    path: Path, history: pd.DataFrame, measured_on: str, tested: Mapping[str, float], dpi: int
) -> None:
    """The notebook's 2 x 2: loss above, accuracy below, training left, `measured_on` ("validation" or "test") right.

    `tested`: the final loss and accuracy on the test set, drawn as lines where the curves are of the validation set.
    """
    sides = [("train", "Training", BLUE), ("validation", measured_on.capitalize(), VERMILION)]
    with figure(path, 9, 6, dpi) as drawing:
        drawing.suptitle("Training history", x=0.01, ha="left")
        axes = drawing.subplots(2, 2, sharex=True, sharey="row")
        for column, (split, name, color) in enumerate(sides):
            for row, quantity in enumerate(["loss", "accuracy"]):
                axis, values = axes[row, column], history[f"{split}_{quantity}"]
                axis.set_title(f"{name} {quantity}: {_shown(values.iloc[-1], quantity)}")
                axis.plot(history["epoch"], values, color=color, marker="o", markersize=4)
                axis.margins(x=0.08, y=0.15)
                if split == measured_on:
                    axis.axhline(tested[quantity], color=GREY, linewidth=1, linestyle="--", zorder=1)
                    place = {"textcoords": "offset points", "ha": "left", "fontsize": 10, "color": "#57606A"}
                    text = f"test {_shown(tested[quantity], quantity)}"
                    axis.annotate(text, (0.02, tested[quantity]), (0, 4), axis.get_yaxis_transform(), **place)
        for axis in axes[1]:
            axis.set_xlabel("epoch")
            axis.yaxis.set_major_formatter(PercentFormatter(1.0))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _shown(value: float, quantity: str) -> str:
    return f"{value:.2%}" if "accuracy" in quantity else f"{value:.4f}"


def plot_confusion_matrix(path: Path, matrix: np.ndarray, test: Dataset, predictions: pd.DataFrame, dpi: int) -> None:
    """Counts [actual, predicted], the correct ones in grey; in each confused cell its most confident mistake."""
    mistakes, classes = matrix - np.diag(matrix.diagonal()), test.classes
    side = max(8.5, 0.85 * len(classes) + 1)
    with figure(path, side, side * 0.94, dpi) as drawing:
        axis = drawing.subplots()
        axis.set_title(f"{mistakes.sum():,} mistakes in {matrix.sum():,} test images", pad=12)
        axis.set(xlabel="predicted", ylabel="actual", facecolor="#F6F7F9")
        axis.imshow(np.ma.masked_equal(mistakes, 0), cmap="Oranges", vmin=0, vmax=max(3, mistakes.max() * 2))
        for actual, predicted in np.argwhere(matrix):
            style: Any = {"color": GREY, "ha": "center", "va": "center"}
            place = predicted, actual
            if actual != predicted:
                style, place = {"fontweight": "bold", "va": "top"}, (predicted - 0.44, actual - 0.42)
            axis.text(*place, f"{matrix[actual, predicted]:,}", fontsize=10, **style)
        for row in most_confident(predictions).drop_duplicates(["actual", "predicted"]).itertuples(index=False):
            x, y = classes.index(row.predicted), classes.index(row.actual)
            ink = np.zeros((*test.images.shape[1:], 4))
            ink[..., 3] = test.images[row.index] / 255  # black where the image is white
            axis.imshow(ink, extent=(x - 0.4, x + 0.48, y + 0.48, y - 0.4), zorder=3)
        borders = np.arange(len(classes) + 1) - 0.5
        axis.set(xlim=borders[[0, -1]], ylim=borders[[-1, 0]])
        slant: Any = {"rotation": 45, "ha": "right"} if max(map(len, classes)) > SHORT else {}
        axis.set_xticks(range(len(classes)), classes, **slant)
        axis.set_yticks(range(len(classes)), classes)
        axis.set_xticks(borders, minor=True)
        axis.set_yticks(borders, minor=True)
        axis.tick_params(which="both", length=0)
        axis.grid(visible=False)
        axis.grid(which="minor", color="white", linewidth=2)
        axis.spines[:].set_visible(False)


def plot_confident_mistakes(path: Path, test: Dataset, predictions: pd.DataFrame, count: int, dpi: int) -> None:
    """The wrong predictions that the model was surest of."""
    wrong = most_confident(predictions)
    worst = wrong.head(count)
    gap = " " if max(map(len, test.classes)) <= SHORT else "\n"
    captions = [f"{row.actual}{gap}read as {row.predicted}\n{row.confidence:.0%} sure" for row in worst.itertuples()]
    title = f"The {len(worst)} most confident of {len(wrong)} mistakes"
    draw_grid(path, test.images[worst["index"]], captions, title, columns=8, dpi=dpi)


def plot_per_class_accuracy(path: Path, matrix: np.ndarray, classes: Sequence[str], dpi: int) -> None:
    """Accuracy of each class with its 95 % Wilson interval, and that of all classes as a line."""
    correct, counts = matrix.diagonal(), matrix.sum(axis=1)
    accuracy = correct / counts
    low, high = wilson_interval(correct, counts)
    overall = correct.sum() / counts.sum()
    with figure(path, 9, max(4.0, 0.4 * len(classes) + 1), dpi) as drawing:
        axis = drawing.subplots()
        axis.set_title("Test accuracy by class, with 95 % intervals")
        rows = np.arange(len(classes))
        axis.axvline(overall, color=GREY, linewidth=1, linestyle="--", zorder=1)
        axis.hlines(rows, low, high, color=BLUE, linewidth=5, alpha=0.3)
        axis.plot(accuracy, rows, "o", color=BLUE)
        for row, value in zip(rows, accuracy, strict=True):
            axis.annotate(f"{value:.2%}", (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=10)
        axis.annotate(f"all {overall:.2%} ", (overall, -0.7), ha="right", va="center", color="#57606A", fontsize=10)
        axis.set_yticks(rows, classes)
        axis.set_ylim(len(classes) - 0.4, -1.1)
        axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=2))
        axis.grid(visible=False, axis="y")


def most_confident(predictions: pd.DataFrame) -> pd.DataFrame:
    """The wrong ones, surest first."""
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    return wrong.sort_values(["confidence", "index"], ascending=[False, True])


def plot_reliability(path: Path, predictions: pd.DataFrame, bins: int, dpi: int) -> None:
    """Accuracy against confidence, with 95 % intervals, and below how many images have that confidence.

    Source: DeGroot and Fienberg, The Comparison and Evaluation of Forecasters, 1983.
    """
    table = predictions.assign(right=predictions["actual"] == predictions["predicted"])
    groups = table.groupby(confidence_bins(table["confidence"].to_numpy(), bins))
    confidence, correct, count = groups["confidence"].mean(), groups["right"].sum(), groups.size()
    low, high = wilson_interval(correct, count)
    with figure(path, 7, 7, dpi) as drawing:
        above, below = drawing.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        above.set_title("Accuracy where the model is that sure, with 95 % intervals")
        above.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", zorder=1)
        above.vlines(confidence, low, high, color=BLUE, linewidth=5, alpha=0.3)
        above.plot(confidence, correct / count, "o", color=BLUE)
        above.set_ylabel("accuracy")
        below.bar(count.index / bins, count, width=1 / bins, align="edge", color=BLUE, edgecolor="white")
        below.set(yscale="log", ylabel="images", xlabel="confidence")
        below.yaxis.set_major_formatter("{x:,.0f}")
        for axis in (above.xaxis, above.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))


def confusion_of(predictions: pd.DataFrame, classes: Sequence[str]) -> np.ndarray:
    """Counts, int64 [actual, predicted], from the table of predictions with its class names."""
    actual, predicted = (predictions[column].map(classes.index).to_numpy() for column in ("actual", "predicted"))
    return confusion_matrix(actual, predicted, len(classes))
