"""The recipes, the timing of one, and the figures that the READMEs take from them."""

import json
import re
import sys
from pathlib import Path

import pytest
import yaml

from benchmarks.bench import recipe_params, summarize
from benchmarks.notebook_way import seconds_per_epoch
from src.params import load_params
from tests.conftest import ROOT, Stage, run
from tests.test_training import dataset

RECIPES = sorted((ROOT / "benchmarks/recipes").glob("*.txt"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_each_recipe_is_valid(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known keys, right types, and every line a word that any shell passes on as it is."""
    monkeypatch.chdir(ROOT)
    assert recipe_params(path.stem) != load_params(Path("params.yaml"))
    assert all(re.fullmatch(r"--set-param=[a-z_.]+=[\w.-]+", line) for line in path.read_text().splitlines())


def test_dvc_runs_a_recipe_by_name(clone: Path) -> None:
    """`dvc exp run $(cat benchmarks/recipes/dash.txt)` writes the recipe's values and trains its network."""
    run(["sh", "-c", "dvc exp run $(cat benchmarks/recipes/dash.txt)"], clone)
    params = yaml.safe_load((clone / "params.yaml").read_text())
    assert params["model"]["name"] == "dash"
    assert json.loads((clone / "metrics/train.json").read_text())["parameters"] == 29_290


def test_one_training_is_measured(stage: Stage, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process of its own: seconds, accuracy, memory, the images of its epochs; the same accuracy twice."""
    stage("prepare", check=True)
    command = [sys.executable, "-m", "benchmarks.bench", "--recipe", "tiny", "--seed", "3"]
    first, second = (json.loads(run(command, tiny, PYTHONPATH=str(ROOT)).stdout) for _ in range(2))
    monkeypatch.chdir(ROOT)
    assert first["accuracy"] == second["accuracy"] > 0.1
    assert first["images"] == pytest.approx(330 * recipe_params("tiny").train.epochs)
    assert 0 < first["seconds"] < 60
    assert 100 < first["peak_memory_mb"] < 2000


def test_an_epoch_is_scaled_from_its_batches() -> None:
    """Twice the images, twice the seconds of an epoch, whatever the batches measured."""
    one, two = seconds_per_epoch(dataset(600), 2), seconds_per_epoch(dataset(1200), 2)
    assert 1 < two / one < 4


def test_a_row_of_results() -> None:
    """Means, the spread between seeds and the time in epochs, by hand."""
    runs = [
        {"accuracy": a, "seconds": s, "images": 300, "peak_memory_mb": m, "parameters": 7, "machine": {}}
        for a, s, m in ((0.9, 1.0, 5.0), (0.8, 3.0, 4.0))
    ]
    row = summarize("x", runs, epoch=10.0)
    assert (row["mean_accuracy"], row["mean_train_s"]) == pytest.approx((0.85, 2.0))
    assert row["sd_accuracy"] == pytest.approx(0.0707, abs=1e-4)
    assert (row["reference_epochs"], row["images_per_s"], row["peak_memory_mb"]) == pytest.approx((0.2, 150, 5))


def test_the_readme_shows_the_results() -> None:
    """Mean, standard deviation, seeds, seconds and epochs of every recipe, as benchmarks/results.json has them."""
    results = json.loads((ROOT / "benchmarks/results.json").read_text())
    text = (ROOT / "README.md").read_text()
    for row in results["recipes"]:
        shown = (
            f"{row['mean_accuracy'] * 100:.2f} ± {row['sd_accuracy'] * 100:.2f} | {len(row['seeds'])} | "
            f"{row['mean_train_s']:.1f} | {row['reference_epochs']:.3f} |"
        )
        assert re.search(rf"\| `{row['name']}` \|[^|]+\| {re.escape(shown)}", text), (row["name"], shown)
    assert f"{results['reference_epoch_s']:.1f} s in that run" in text
    assert f"on {results['throughput_ratio']:.1f} times as many" in text
    assert f"{results['full_resolution_ratio']:.1f} times as many where it sees them" in text
    assert f"| {results['notebook_curve'][-1] * 100:.2f} | 1 |" in text
