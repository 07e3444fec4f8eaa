"""The figures of the plot stage."""

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator, PercentFormatter

from src.data.dataset import Dataset
from src.evaluation.metrics import confidence_bins, wilson_interval
from src.reporting.drawing import BLUE, GRAY, TEXT_GRAY, VERMILION, draw_image_grid, saved_figure, shorten

MAX_MISTAKES = 24  # images in mistakes.png
MAX_CLASSES = 12  # in the confusion matrix; the one that DVC draws from predictions.csv has all
OUTLIER = 10  # times the 90 % quantile of the losses; higher ones are outside the figure
SHORT_NAME = 5  # characters of a class name that fits next to another one


def plot_train_test_metrics(path: Path, history: pd.DataFrame) -> None:
    """Draw loss and accuracy over epochs in a 2 x 2 grid.

    Args:
        history: `epoch`, and loss and accuracy of `train` and, if there are validation images, `validation`.
    """
    colors = {"train": BLUE, "validation": VERMILION}
    splits = [split for split in colors if f"{split}_loss" in history]
    with saved_figure(path, 9, 6) as figure:
        axes = figure.subplots(2, len(splits), sharex=True, sharey="row", squeeze=False)
        for column, split in enumerate(splits):
            for row, (metric, form) in enumerate([("loss", ".4f"), ("accuracy", ".2%")]):
                axis, values = axes[row, column], history[f"{split}_{metric}"]
                axis.set_title(f"{split} {metric}: {values.iloc[-1]:{form}}")
                axis.plot(history["epoch"], values, color=colors[split], marker="o", markersize=4)
        losses = history.filter(like="_loss").to_numpy()
        limit = OUTLIER * np.quantile(losses, 0.9, method="lower")
        if losses.max() > limit:
            axes[0, 0].set_ylim(0, limit)
        for axis in axes[1]:
            axis.set_xlabel("epoch")
            axis.yaxis.set_major_formatter(PercentFormatter(1.0))
            axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def plot_confusion_matrix(path: Path, confusion: pd.DataFrame, test: Dataset, predictions: pd.DataFrame) -> None:
    """Draw the confusion matrix of the `MAX_CLASSES` most confused classes, with a mistake in each cell that has some.

    Args:
        confusion: number of images by actual class (rows) and predicted class (columns).
        predictions: one row per image of the test set: `index`, `actual`, `predicted`, `confidence`.
    """
    counts = confusion.to_numpy()
    errors = counts - np.diag(counts.diagonal())
    title = f"Mistakes: {errors.sum():,} of {counts.sum():,} test images, accuracy {counts.trace() / counts.sum():.2%}"
    if len(confusion) > MAX_CLASSES:
        title += f"\nThe {MAX_CLASSES} most confused of {len(confusion):,} classes"
    shown = np.sort(np.argsort(-errors.sum(axis=0) - errors.sum(axis=1), kind="stable")[:MAX_CLASSES])
    counts, errors, classes = counts[np.ix_(shown, shown)], errors[np.ix_(shown, shown)], confusion.index[shown]
    examples = mistakes_by_confidence(predictions).groupby(["actual", "predicted"])["index"].first()
    labels, places = [shorten(name) for name in classes], range(len(classes))
    longest = max(map(len, labels))
    side = max(6, 0.85 * len(classes)) + 0.5 + 0.08 * longest  # inches: cells, axis labels, characters of class names
    with saved_figure(path, side, side) as figure:
        axis = figure.subplots()
        axis.set_title(title, pad=12)
        # the square root keeps single mistakes visible; vmax at twice the maximum keeps colors light behind the numbers
        shades: Any = {"vmin": 0, "vmax": 2 * max(1, errors.max()) ** 0.5, "edgecolor": "white", "linewidth": 2}
        colors = mpl.colormaps["Oranges"].with_extremes(bad="#F6F7F9")
        axis.pcolormesh(places, places, np.ma.masked_equal(errors, 0) ** 0.5, cmap=colors, **shades)
        bold: Any = {"weight": "bold", "path_effects": [withStroke(linewidth=3, foreground="white")]}
        for y, x in np.argwhere(counts):
            number = f"{counts[y, x]:,}"
            if x == y:
                axis.text(x, y, number, fontsize=10, color=TEXT_GRAY, ha="center", va="center")
            else:
                image = test.images[examples[classes[y], classes[x]]]
                extent = (x - 0.28, x + 0.46, y + 0.46, y - 0.28)  # to the bottom right of the number
                axis.imshow(image, cmap="gray", vmin=0, vmax=255, extent=extent, zorder=3)
                axis.text(x - 0.44, y - 0.44, number, fontsize=10, va="top", **bold)
        axis.set_xticks(places, labels, rotation=0 if longest <= SHORT_NAME else 90)
        axis.set_yticks(places, labels)
        limits = np.array([-0.5, len(classes) - 0.5])
        axis.set(xlabel="predicted", ylabel="actual", aspect="equal", xlim=limits, ylim=limits[::-1])
        axis.tick_params(length=0)
        axis.grid(visible=False)
        axis.spines[:].set_visible(False)


def plot_confident_mistakes(path: Path, test: Dataset, predictions: pd.DataFrame) -> None:
    """Draw the `MAX_MISTAKES` wrong predictions with the highest confidence, and their file names."""
    mistakes = mistakes_by_confidence(predictions)
    shown = mistakes.head(MAX_MISTAKES)
    gap = " " if max(map(len, test.classes)) <= SHORT_NAME else "\n"
    captions = [f"{row.actual}{gap}→ {row.predicted}\n{row.confidence:.0%} sure" for row in shown.itertuples()]
    if test.files:
        captions = [f"{text}\n{Path(test.files[i]).name}" for i, text in zip(shown["index"], captions, strict=True)]
    title = f"Most confident mistakes: {len(shown)} of {len(mistakes):,} (actual → predicted)"
    draw_image_grid(path, test.images[shown["index"]], captions, title, columns=8)


def plot_reliability(path: Path, predictions: pd.DataFrame, unit: str) -> None:
    """Draw accuracy against confidence with 95 % intervals, and the mistakes among the surest part of the images.

    Sources: DeGroot and Fienberg, The Comparison and Evaluation of Forecasters, 1983; El-Yaniv and Wiener, On the
    Foundations of Noise-free Selective Classification, 2010.

    Args:
        unit: what an interval counts: the column "index" for images, or "group".
    """
    table = predictions.assign(correct=predictions["actual"] == predictions["predicted"])
    groups = table.groupby(confidence_bins(table["confidence"].to_numpy()))
    confidence, accuracy, count = groups["confidence"].mean(), groups["correct"].mean(), groups[unit].nunique()
    mistakes = ~table.sort_values("confidence", ascending=False, kind="stable")["correct"]
    answered = np.arange(1, len(table) + 1)
    with saved_figure(path, 7, 8) as figure:
        above, below = figure.subplots(2, 1, height_ratios=[3, 2])
        above.set_title("Accuracy by confidence, with 95 % intervals")
        above.plot([0, 1], [0, 1], "--", color=GRAY, linewidth=1, zorder=1)
        above.vlines(confidence, *wilson_interval(accuracy * count, count), color=BLUE, linewidth=5, alpha=0.3)
        above.plot(confidence, accuracy, "o", color=BLUE)
        above.set(xlabel="confidence", ylabel="accuracy")
        below.set_title("Mistakes if the model answers only where it is surest")
        below.plot(answered / len(table), mistakes.cumsum() / answered, color=VERMILION)
        below.set(xlabel="answered images", ylabel="mistakes among them", ylim=(0, None))
        for axis in (above.xaxis, above.yaxis, below.xaxis, below.yaxis):
            axis.set_major_formatter(PercentFormatter(1.0))


def mistakes_by_confidence(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the wrong predictions, the most confident first."""
    wrong = predictions[predictions["actual"] != predictions["predicted"]]
    return wrong.sort_values(["confidence", "index"], ascending=[False, True])
