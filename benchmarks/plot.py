"""Plot test error against training time for all recipes, and for the notebook's recipe epoch by epoch."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import NullFormatter

from src.drawing import BLUE, GRAY, VERMILION, saved_figure

NOTEBOOK_CURVE = Path(__file__).with_name("notebook_curve.csv")


def plot_error_against_time(path: Path, results: dict[str, Any]) -> None:
    """Plot test error against training time in epochs of the notebook's training, on logarithmic axes.

    Args:
        path: PNG file to write.
        results: the content of results.json.
    """
    curve = pd.read_csv(NOTEBOOK_CURVE, index_col="epoch")["validation_accuracy"].rsub(1)
    with saved_figure(path, 9, 5.5) as figure:
        axis = figure.subplots()
        axis.set_title("Test error against training time")
        axis.set(xlabel="training time, in epochs of the notebook's training", ylabel="test error")
        axis.plot(curve, color=GRAY, marker="o", markersize=4)
        label = "the notebook's recipe,\nepoch by epoch"
        axis.annotate(label, (5, curve[5]), (6, 6), textcoords="offset points")
        for row in results["recipes"]:
            color = BLUE if row["name"] == "default" else VERMILION
            seconds, error = np.array(row["train_s"]), 1 - np.array(row["accuracy"])
            mean = (row["reference_epochs"], 1 - row["mean_accuracy"])
            axis.plot(seconds / results["reference_epoch_s"], error, ".", color=color, alpha=0.35)
            axis.plot(*mean, "o", color=color, markersize=9)
            label = f"{row['name']} {row['mean_accuracy']:.2%}"
            axis.annotate(label, mean, (10, 2), textcoords="offset points", fontweight="bold")
        axis.set(xscale="log", yscale="log", ylim=(0.002, 0.06), yticks=[0.003, 0.005, 0.01, 0.02, 0.05])
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_formatter("{x:.1%}")
        axis.xaxis.set_major_formatter("{x:g}")
