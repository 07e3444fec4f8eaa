"""The runs that the benchmark measures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import bench


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, object]]]:
    """Replace the measurements by constants. Return the list of recipes and changes that are measured."""
    calls = []
    baselines = iter([8.0, 12.0])

    def run_isolated(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        if function is bench.measure_baseline:
            return {"name": "baseline", "seconds": next(baselines)}
        calls.append(arguments)
        return {"name": arguments[0], "accuracy": 0.9, "seconds": 2.0}

    monkeypatch.setattr(bench, "run_isolated", run_isolated)
    monkeypatch.setattr(bench, "HERE", tmp_path)
    old = [{"name": name, "accuracy": 0.5, "seconds": 1.0, "epochs": 1.0} for name in ("dash", "best", "baseline")]
    (tmp_path / "results.json").write_text(json.dumps({"runs": old}))
    return calls


def test_run_measures_every_seed_the_throughput_and_the_baseline_before_and_after(measured: list) -> None:
    runs = bench.run({"dash": 2, "default": 1})
    throughput = ("notebook", {"train.epochs": 0.5, "compute.precision": "auto"})
    seeds = [("dash", {"train.seed": 0}), ("dash", {"train.seed": 1}), ("default", {"train.seed": 0})]
    assert measured == [*seeds, throughput]
    assert [run["name"] for run in runs] == ["baseline", "dash", "dash", "default", "throughput", "baseline"]
    assert [run["epochs"] for run in runs] == [0.8, 0.2, 0.2, 0.2, 0.2, 1.2]  # of 10 seconds, the mean of the baselines


@pytest.mark.usefixtures("measured")
def test_bench_writes_all_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["bench"])
    bench.main()
    assert len(json.loads((tmp_path / "results.json").read_text())["runs"]) == 2 + sum(bench.SEEDS.values()) + 1
    assert (tmp_path / "accuracy.png").exists()


def test_bench_replaces_the_results_of_the_named_recipes(
    measured: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", "dash"])
    bench.main()
    assert [recipe for recipe, _ in measured] == ["dash"] * 10 + ["notebook"]
    names = [row["name"] for row in json.loads((tmp_path / "results.json").read_text())["runs"]]
    assert names == ["baseline", *["dash"] * 10, "throughput", "baseline", "best"]
