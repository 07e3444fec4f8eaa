"""The runs that the benchmark measures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from benchmarks import bench
from benchmarks.report import summarize


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
    monkeypatch.setattr(bench, "download_datasets", lambda recipes: None)
    return calls


def test_run_measures_every_seed_the_throughput_and_the_baseline_before_and_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = fake_measurements(monkeypatch)
    runs = bench.run({"dash": 2, "default": 1})
    throughput = ("notebook", {"epochs": 0.5, "precision": "auto"})
    assert calls == [("dash", {"seed": 0}), ("dash", {"seed": 1}), ("default", {"seed": 0}), throughput]
    assert [run["name"] for run in runs] == ["baseline", "dash", "dash", "default", "throughput", "baseline"]
    speed = summarize(pd.DataFrame(runs))["images_per_s"]
    assert (speed["default"] / speed["baseline"], speed["throughput"] / speed["baseline"]) == (6, 3)


def test_run_adds_the_time_in_epochs_of_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([8.0, 2.0, 3.0, 12.0])
    monkeypatch.setattr(bench, "run_isolated", lambda *_: {"name": "any", "seconds": next(seconds)})
    assert [run["epochs"] for run in bench.run({"dash": 1})] == [0.8, 0.2, 0.3, 1.2]


@pytest.mark.parametrize("arguments", [[], ["--quick"]])
def test_bench_prints_a_table_and_writes_results_unless_quick(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_measurements(monkeypatch)
    monkeypatch.setattr(bench, "HERE", tmp_path)
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    bench.main()
    table = capsys.readouterr().out
    assert table.split()[:6] == ["seconds", "images_per_s", "epochs", "parameters", "accuracy", "peak_memory_mb"]
    quick = bool(arguments)
    names = ["baseline", *(bench.QUICK_SEEDS if quick else bench.SEEDS), "throughput"]
    assert [line.split("  ")[0] for line in table.splitlines()[2:]] == names
    assert {path.name for path in tmp_path.iterdir()} == (set() if quick else {"results.json", "accuracy.png"})
    if not quick:
        runs = json.loads((tmp_path / "results.json").read_text())["runs"]
        assert len(runs) == 2 + sum(bench.SEEDS.values()) + 1


def test_bench_measures_only_the_named_recipes_and_keeps_the_other_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = fake_measurements(monkeypatch)
    monkeypatch.setattr(bench, "HERE", tmp_path)
    baseline = {"name": "baseline", "seconds": 100.0, "epochs": 1.0}
    old = [baseline, *({"name": name, "accuracy": 0.8, "epochs": 0.5} for name in ("dash", "sprint"))]
    (tmp_path / "results.json").write_text(json.dumps({"runs": old}))
    monkeypatch.setattr("sys.argv", ["bench", "dash"])
    bench.main()
    assert [recipe for recipe, _ in calls] == ["dash"] * 10 + ["notebook"]
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert [(run["name"], run.get("accuracy")) for run in runs] == [
        ("baseline", None),
        ("sprint", 0.8),
        *[("dash", 0.9)] * 10,
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["dahs"], "no recipe of the benchmark: dahs"), (["--quick", "best"], "--quick measures its own recipes")],
)
def test_invalid_arguments_are_an_error(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["bench", *arguments])
    with pytest.raises(SystemExit, match="2"):
        bench.main()
    assert message in capsys.readouterr().err
