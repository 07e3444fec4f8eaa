"""The runs that the benchmark measures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench
from benchmarks.report import summarize, to_table


def fake_measurements(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, float]]]:
    """Replace the measurements by constants, and return the list of recipes and changes that are measured."""
    calls = []

    def run_isolated(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        if function is bench.measure_baseline:
            return {"name": "baseline", "seconds": 600.0, "images_per_s": 100.0}
        recipe, changes = arguments
        calls.append((recipe, changes))
        values = {"accuracy": 0.9, "seconds": 2.0, "images_per_s": 300.0 if "epochs" in changes else 600.0}
        return {"name": recipe, "parameters": 7, **values, "peak_memory_mb": 5.0, "machine": "threads 2"}

    monkeypatch.setattr(bench, "run_isolated", run_isolated)
    return calls


def test_run_measures_every_seed_the_throughput_and_the_baseline_before_and_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = fake_measurements(monkeypatch)
    runs = bench.run({"dash": 2, "default": 1})
    throughput = ("notebook", {"epochs": 0.5, "precision": "auto"})
    assert calls == [("dash", {"seed": 0}), ("dash", {"seed": 1}), ("default", {"seed": 0}), throughput]
    assert [run["name"] for run in runs] == ["baseline", "dash", "dash", "default", "throughput", "baseline"]
    speed = summarize(to_table(runs))["images_per_s"]
    assert (speed["default"] / speed["baseline"], speed["throughput"] / speed["baseline"]) == (6, 3)


@pytest.mark.parametrize("arguments", [[], ["--quick"]])
def test_bench_prints_a_table_and_writes_results_unless_quick(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_measurements(monkeypatch)
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    bench.main()
    table = capsys.readouterr().out
    assert table.split()[:6] == ["seconds", "images_per_s", "parameters", "accuracy", "peak_memory_mb", "epochs"]
    quick = bool(arguments)
    names = ["baseline", *(bench.QUICK_SEEDS if quick else bench.SEEDS), "throughput"]
    assert [line.split("  ")[0] for line in table.splitlines()[2:]] == names
    assert {path.name for path in tmp_path.iterdir()} == (set() if quick else {"results.json", "accuracy.png"})
    if not quick:
        runs = json.loads((tmp_path / "results.json").read_text())["runs"]
        assert len(runs) == 2 + sum(bench.SEEDS.values()) + 1
