"""Tables and the plot of the benchmark's results."""

from pathlib import Path
from typing import Any

import pandas as pd

from src.reporting.drawing import BLUE, GRAY, VERMILION, saved_figure

NOTEBOOK_CURVE = Path(__file__).with_name("notebook_curve.csv")
NOT_PLOTTED = ("baseline", "throughput", "fashion")  # fashion: other images


def summarize(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row per name, with the number of runs, all means and the standard deviation of the accuracy."""
    groups = table.groupby("name", sort=False)
    return groups.mean(numeric_only=True).assign(accuracy_std=groups["accuracy"].std(), runs=groups.size())


def plot_error_against_time(path: Path, table: pd.DataFrame) -> None:
    """Plot test error against training time on logarithmic axes, and the notebook's recipe epoch by epoch."""
    notebook = pd.read_csv(NOTEBOOK_CURVE, index_col="epoch")["validation_accuracy"].rsub(1)
    with saved_figure(path, 9, 5.5) as figure:
        axis = figure.subplots(subplot_kw={"xscale": "log", "yscale": "log", "ylim": (0.002, 0.06)})
        axis.set(title="Test error against training time", xlabel="time in baseline epochs", ylabel="test error")
        axis.plot(notebook, color=GRAY, marker="o", markersize=4)
        place: Any = {"textcoords": "offset points", "xytext": (8, 4)}
        axis.annotate("the notebook's recipe,\nepoch by epoch", (5, notebook[5]), **place)
        for name, runs in table[~table["name"].isin(NOT_PLOTTED)].groupby("name"):
            color = BLUE if name == "default" else VERMILION
            x, y = runs["epochs"], 1 - runs["accuracy"]
            axis.plot(x, y, ".", color=color, alpha=0.35)
            axis.plot(x.mean(), y.mean(), "o", color=color, markersize=9)
            label = f"{name} {1 - y.mean():.2%}"
            offset = {"xytext": (8, -14)} if name == "default" else {}  # below its neighbor
            axis.annotate(label, (x.mean(), y.mean()), fontweight="bold", **place | offset)
        axis.set_yticks([0.003, 0.005, 0.01, 0.02, 0.05])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter("{x:.1%}")
        axis.xaxis.set_major_formatter("{x:g}")
