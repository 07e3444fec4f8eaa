"""The figures of the plot stage."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator, PercentFormatter

from src.data.dataset import Dataset
from src.drawing import BLUE, GRAY, TEXT_GRAY, VERMILION, draw_image_grid, saved_figure
from src.metrics import confidence_bins, wilson_interval

SHORT_NAME = 5  # characters of a class name that fits next to another one
INTERVAL: Any = {"color": BLUE, "linewidth": 5, "alpha": 0.3}
REFERENCE: Any = {"color": GRAY, "linewidth": 1, "linestyle": "--", "zorder": 1}


def plot_train_test_metrics(
    path: Path, history: pd.DataFrame, measured_on: str, final: Mapping[str, float], dpi: int
) -> None:
    """Draw loss and accuracy per epoch in a 2 x 2 grid: the notebook's function of this name.

    Args:
        path: the PNG file.
        history: one row per epoch: `epoch`, and loss and accuracy of `train` and `validation`.
        measured_on: the split behind the `validation` columns: "validation", or "test" if there is no validation set.
        final: `loss` and `accuracy` of the trained model on the test set, drawn as dashed lines if there is a
            validation set.
        dpi: pixels per inch.
    """
    splits = [("train", "Training", BLUE), ("validation", measured_on.capitalize(), VERMILION)]
    with saved_figure(path, 9, 6, dpi) as figure:
        figure.suptitle("Training history", x=0.01, ha="left")
        axes = figure.subplots(2, 2, sharex=True, sharey="row")
        for column, (split, name, color) in enumerate(splits):
            for row, (metric, form) in enumerate([("loss", ".4f"), ("accuracy", ".2%")]):
                axis, values = axes[row, column], history[f"{split}_{metric}"]
                axis.set_title(f"{name} {metric}: {values.iloc[-1]:{form}}")
                axis.plot(history["epoch"], values, color=color, marker="o", markersize=4)
                axis.margins(x=0.08, y=0.15)
                if split == measured_on:
                    axis.axhline(final[metric], **REFERENCE)
                    style: Any = {"textcoords": "offset points", "ha": "left", "fontsize": 10, "color": TEXT_GRAY}
                    text, position = f"test {final[metric]:{form}}", (0.02, final[metric])
                    axis.annotate(text, position, (0, 4), axis.get_yaxis_transform(), **style)
        for axis in axes[1]:
            axis.set_xlabel("epoch")
            axis.yaxis.set_major_formatter(PercentFormatter(1.0))
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def plot_confusion_matrix(
    path: Path, confusion: pd.DataFrame, test: Dataset, predictions: pd.DataFrame, dpi: int
) -> None:
    """Draw the confusion matrix, with the most confident mistake of each cell.

    Args:
        path: the PNG file.
        confusion: number of images by actual class (rows) and predicted class (columns).
        test: the test set.
        predictions: one row per image of the test set: `index`, `actual`, `predicted`, `confidence`.
        dpi: pixels per inch.
    """
    counts, classes = confusion.to_numpy(), list(confusion.index)
    errors = counts - np.diag(counts.diagonal())
    side = max(8.5, 0.85 * len(classes) + 1)
    with saved_figure(path, side, side * 0.94, dpi) as figure:
        axis = figure.subplots()
        axis.set_title(f"{errors.sum():,} mistakes in {counts.sum():,} test images", pad=12)
        axis.set(xlabel="predicted", ylabel="actual", facecolor="#F6F7F9")
        axis.imshow(np.ma.masked_equal(errors, 0), cmap="Oranges", vmin=0, vmax=max(3, errors.max() * 2))
        for actual, predicted in np.argwhere(counts):
            style: Any = {"x": predicted - 0.44, "y": actual - 0.42, "fontweight": "bold", "va": "top"}
            if actual == predicted:
                style = {"x": predicted, "y": actual, "color": GRAY, "ha": "center", "va": "center"}
            axis.text(s=f"{counts[actual, predicted]:,}", fontsize=10, **style)
        for row in mistakes_by_confidence(predictions).drop_duplicates(["actual", "predicted"]).itertuples():
            x, y = classes.index(row.predicted), classes.index(row.actual)
            ink = np.zeros((*test.images.shape[1:], 4))
            ink[..., 3] = test.images[row.index] / 255  # opacity: black ink on the color of the cell
            axis.imshow(ink, extent=(x - 0.4, x + 0.48, y + 0.48, y - 0.4), zorder=3)
        borders = np.arange(len(classes) + 1) - 0.5
        axis.set(xlim=borders[[0, -1]], ylim=borders[[-1, 0]])
        slanted: Any = {"rotation": 45, "ha": "right"} if max(map(len, classes)) > SHORT_NAME else {}
        axis.set_xticks(range(len(classes)), classes, **slanted)
        axis.set_yticks(range(len(classes)), classes)
        axis.set_xticks(borders, minor=True)
        axis.set_yticks(borders, minor=True)
        axis.tick_params(which="both", length=0)
        axis.grid(visible=False)
        axis.grid(which="minor", color="white", linewidth=2)
        axis.spines[:].set_visible(False)


def plot_confident_mistakes(path: Path, test: Dataset, predictions: pd.DataFrame, count: int, dpi: int) -> None:
    """Draw the `count` wrong predictions with the highest confidence."""
    mistakes = mistakes_by_confidence(predictions)
    shown = mistakes.head(count)
    gap = " " if max(map(len, test.classes)) <= SHORT_NAME else "\n"
    captions = [f"{row.actual}{gap}→ {row.predicted}\n{row.confidence:.0%} sure" for row in shown.itertuples()]
    title = f"The {len(shown)} most confident of {len(mistakes)} mistakes (actual → predicted)"
    draw_image_grid(path, test.images[shown["index"]], captions, title, columns=8, dpi=dpi)


def plot_per_class_accuracy(path: Path, confusion: pd.DataFrame, dpi: int) -> None:
    """Draw the accuracy of each class with its 95 % Wilson interval, and the overall accuracy as a line."""
    correct, counts = confusion.to_numpy().diagonal(), confusion.to_numpy().sum(axis=1)
    overall = correct.sum() / counts.sum()
    rows = np.arange(len(confusion))
    with saved_figure(path, 9, max(4.0, 0.4 * len(rows) + 1), dpi) as figure:
        axis = figure.subplots()
        axis.set_title("Test accuracy by class, with 95 % intervals")
        axis.axvline(overall, **REFERENCE)
        axis.hlines(rows, *wilson_interval(correct, counts), **INTERVAL)
        axis.plot(correct / counts, rows, "o", color=BLUE)
        for row, value in zip(rows, correct / counts, strict=True):
            axis.annotate(f"{value:.2%}", (1.01, row), xycoords=("axes fraction", "data"), va="center", fontsize=10)
        axis.annotate(f"all {overall:.2%} ", (overall, -0.7), ha="right", va="center", color=TEXT_GRAY, fontsize=10)
        axis.set_yticks(rows, confusion.index)
        axis.set_ylim(len(rows) - 0.4, -1.1)
        axis.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=2))
        axis.grid(visible=False, axis="y")


def plot_reliability(path: Path, predictions: pd.DataFrame, bins: int, dpi: int) -> None:
    """Draw accuracy against confidence with 95 % intervals, and the number of images per bin of confidence.

    Source: DeGroot and Fienberg, The Comparison and Evaluation of Forecasters, 1983.
    """
    table = predictions.assign(correct=predictions["actual"] == predictions["predicted"])
    groups = table.groupby(confidence_bins(table["confidence"].to_numpy(), bins))
    confidence, correct, count = groups["confidence"].mean(), groups["correct"].sum(), groups.size()
    with saved_figure(path, 7, 7, dpi) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        above.set_title("Accuracy by confidence, with 95 % intervals")
        above.plot([0, 1], [0, 1], **REFERENCE)
        above.vlines(confidence, *wilson_interval(correct, count), **INTERVAL)
        above.plot(confidence, correct / count, "o", color=BLUE)
        above.set_ylabel("accuracy")
        below.bar(count.index / bins, count, width=1 / bins, align="edge", color=BLUE, edgecolor="white")
        below.set(yscale="log", ylabel="images", xlabel="confidence")
        below.yaxis.set_major_formatter("{x:,.0f}")
        for axis in (above.xaxis, above.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))


def mistakes_by_confidence(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the wrong predictions, the most confident first."""
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    return wrong.sort_values(["confidence", "index"], ascending=[False, True])
