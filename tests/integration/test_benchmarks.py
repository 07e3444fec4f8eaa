"""Measurements in their own processes, and a recipe that DVC runs."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from benchmarks.bench import measure, run_isolated
from tests.helpers import ROOT, run


def test_dvc_exp_run_accepts_a_recipe_file(finished_clone: Path, tmp_path: Path) -> None:
    clone = Path(shutil.copytree(finished_clone, tmp_path / "clone", symlinks=True))
    run(["sh", "-c", "dvc exp run $(cat benchmarks/recipes/dash.txt)"], clone)
    params = yaml.safe_load((clone / "params.yaml").read_text())
    assert params["model"]["name"] == "dash"
    assert json.loads((clone / "metrics/train.json").read_text())["parameters"] == 38_570


def test_measurement_has_seconds_memory_images_and_a_reproducible_accuracy(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tiny)
    first, second = (run_isolated(measure, "dash", {"seed": 3, "epochs": 5}) for _ in range(2))
    assert first["accuracy"] == second["accuracy"] > 0.1
    assert first["images_per_s"] * first["seconds"] == pytest.approx(330 * 5)
    assert 0 < first["seconds"] < 60
    assert 100 < first["peak_memory_mb"] < 2000
