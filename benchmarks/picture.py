"""Accuracy against time, for every recipe and for the notebook's own."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import NullFormatter

from src.drawing import BLUE, GREY, VERMILION, figure


def draw(path: Path, results: dict[str, Any]) -> None:
    """Test error against training time in epochs of the notebook's way, both logarithmic: lower left is better."""
    with figure(path, 9, 5.5) as drawing:
        axis = drawing.subplots()
        axis.set_title("Test error against training time")
        axis.set(xlabel="training time, in epochs of the notebook's way", ylabel="test error")
        curve = 1 - np.array(results["notebook_curve"])
        epochs = np.arange(1, len(curve) + 1)
        axis.plot(epochs, curve, color=GREY, marker="o", markersize=4)
        label = "the notebook's recipe,\nepoch by epoch"
        axis.annotate(label, (epochs[4], curve[4]), (6, 6), textcoords="offset points")
        for row in results["recipes"]:
            color = BLUE if row["name"] == "default" else VERMILION
            error, cost = 1 - row["mean_accuracy"], row["reference_epochs"]
            each = 1 - np.array(row["accuracy"])
            axis.plot(np.array(row["train_s"]) / results["reference_epoch_s"], each, ".", color=color, alpha=0.35)
            axis.plot(cost, error, "o", color=color, markersize=9)
            label = f"{row['name']} {row['mean_accuracy']:.2%}"
            axis.annotate(label, (cost, error), (10, 2), textcoords="offset points", fontweight="bold")
        axis.set(xscale="log", yscale="log", ylim=(0.002, 0.06), yticks=[0.003, 0.005, 0.01, 0.02, 0.05])
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_major_formatter("{x:.1%}")
        axis.xaxis.set_major_formatter("{x:g}")
