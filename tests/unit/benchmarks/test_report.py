"""The tables and the plot of the benchmark, and the numbers that benchmarks/README.md takes from it."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.bench import SEEDS
from benchmarks.report import NOTEBOOK_CURVE, plot_error_against_time, summarize
from tests.helpers import ROOT


@pytest.fixture
def results() -> pd.DataFrame:
    """The committed results."""
    return pd.DataFrame(json.loads((ROOT / "benchmarks/results.json").read_text())["runs"])


def test_summary_has_means_the_number_of_runs_and_the_standard_deviation_of_the_accuracy() -> None:
    rows = [("baseline", 10.0, None), ("x", 1.0, 0.9), ("x", 3.0, 0.8)]
    runs = pd.DataFrame(rows, columns=["name", "seconds", "accuracy"])
    expected = {"seconds": 2.0, "accuracy": 0.85, "accuracy_std": 0.0707, "runs": 2}
    assert summarize(runs).loc["x"].to_dict() == pytest.approx(expected, abs=1e-4)


def test_results_have_every_seed_of_every_recipe_and_can_be_plotted(results: pd.DataFrame, tmp_path: Path) -> None:
    assert summarize(results)["runs"].to_dict() == {"baseline": 2, **SEEDS, "throughput": 1}
    plot_error_against_time(tmp_path / "a.png", results)
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_readme_shows_the_results(results: pd.DataFrame) -> None:
    summary = summarize(results)
    text = " ".join((ROOT / "benchmarks/README.md").read_text().split())
    for name in SEEDS:
        row = summary.loc[name]
        shown = (
            f"{row['accuracy'] * 100:.2f} ± {row['accuracy_std'] * 100:.2f} | {row['runs']:.0f} | "
            f"{row['seconds']:.1f} | {row['epochs']:.3f} |"
        )
        assert re.search(rf"\| `{name}` \|[^|]+\| {re.escape(shown)}", text), (name, shown)
    assert f"took {summary['seconds']['baseline']:.1f} s, and" in text
    speed = summary["images_per_s"] / summary["images_per_s"]["baseline"]
    assert f"{speed['throughput']:.1f} times as many images per second" in text
    notebook = pd.read_csv(NOTEBOOK_CURVE)["validation_accuracy"].iloc[-1]
    assert f"| {notebook * 100:.2f} | 1 |" in text
