"""The rows and tables of the benchmark, and the numbers that the README takes from it."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import bench
from benchmarks.bench import format_table, summarize
from benchmarks.plot import NOTEBOOK_CURVE
from src.runtime.files import write_json
from tests.helpers import ROOT, random_dataset


def test_summarize_returns_means_the_standard_deviation_and_the_time_in_epochs_of_the_baseline() -> None:
    runs = [
        {
            "name": "x",
            "parameters": 7,
            "accuracy": a,
            "seconds": s,
            "images_per_s": i,
            "peak_memory_mb": m,
            "machine": {},
        }
        for a, s, i, m in ((0.9, 1.0, 300.0, 5.0), (0.8, 3.0, 100.0, 4.0))
    ]
    row = summarize(runs, baseline_epoch=10.0).loc["x"]
    assert (row["parameters"], row["accuracy"], row["train_s"], row["machine"]) == (7, [0.9, 0.8], [1.0, 3.0], {})
    assert (row["mean_accuracy"], row["mean_train_s"]) == pytest.approx((0.85, 2.0))
    assert row["sd_accuracy"] == pytest.approx(0.0707, abs=1e-4)
    assert (row["reference_epochs"], row["images_per_s"], row["peak_memory_mb"]) == pytest.approx((0.2, 200, 5))
    assert math.isnan(summarize(runs[:1], 10.0).loc["x", "sd_accuracy"])


def test_table_shows_every_recipe_and_the_baseline() -> None:
    results = json.loads((ROOT / "benchmarks/results.json").read_text())
    table = format_table(results)
    assert [line.split()[0] for line in table.splitlines()[1:7]] == [row["name"] for row in results["recipes"]]
    assert "An epoch of the notebook's training takes\n78.7 s." in table
    assert "trains on 5.74 times as many\nimages, or 3.34 times as many if" in table


def test_run_measures_every_seed_and_the_default_at_full_resolution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def run_isolated(function: Callable[..., Any], *arguments: Any) -> Any:
        if function is bench.seconds_per_epoch:
            return 1.0
        recipe, changes = arguments
        calls.append((recipe, changes))
        values = {"accuracy": 0.9, "seconds": 2.0, "images_per_s": 300.0 if "epochs" in changes else 600.0}
        return {"name": recipe, "parameters": 7, **values, "peak_memory_mb": 5.0, "machine": {"threads": 2}}

    monkeypatch.setattr(bench, "run_isolated", run_isolated)
    monkeypatch.setattr(bench, "load_train_set", lambda: random_dataset(100))
    results = bench.run({"dash": 2, "default": 1})
    full_resolution = ("default", {"low_res_fraction": 0.0, "epochs": 0.5})
    assert calls == [("dash", {"seed": 0}), ("dash", {"seed": 1}), ("default", {"seed": 0}), full_resolution]
    assert (results["throughput_ratio"], results["full_resolution_ratio"]) == (6, 3)
    write_json(tmp_path / "results.json", results)
    assert json.loads((tmp_path / "results.json").read_text()) == results


def test_readme_shows_the_results() -> None:
    results = json.loads((ROOT / "benchmarks/results.json").read_text())
    text = " ".join((ROOT / "README.md").read_text().split())
    for row in results["recipes"]:
        shown = (
            f"{row['mean_accuracy'] * 100:.2f} ± {row['sd_accuracy'] * 100:.2f} | {len(row['accuracy'])} | "
            f"{row['mean_train_s']:.1f} | {row['reference_epochs']:.3f} |"
        )
        assert re.search(rf"\| `{row['name']}` \|[^|]+\| {re.escape(shown)}", text), (row["name"], shown)
    assert f"took {results['reference_epoch_s']:.1f} s in that run" in text
    assert f"trains on {results['throughput_ratio']:.1f} times as many images" in text
    assert f"or {results['full_resolution_ratio']:.1f} times as many at 28 \N{MULTIPLICATION SIGN} 28 pixels" in text
    notebook = pd.read_csv(NOTEBOOK_CURVE)["validation_accuracy"].iloc[-1]
    assert f"| {notebook * 100:.2f} | 1 |" in text
