"""Measurements in their own processes."""

from pathlib import Path

import pytest

from benchmarks.bench import measure, run_isolated
from benchmarks.gpu import measure_resnet18
from tests.helpers import ROOT


def test_measurement_has_seconds_images_and_a_reproducible_accuracy(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tiny)
    first, second = (run_isolated(measure, "dash", {"train.seed": 3, "train.epochs": 5}) for _ in range(2))
    assert first["sha256"] == second["sha256"]
    assert first["accuracy"] > 0.1
    assert first["images_per_s"] * first["seconds"] == pytest.approx(330 * 5)
    assert 0 < first["seconds"] < 60


def test_speed_of_resnet18_is_that_of_a_warm_epoch() -> None:
    measured = run_isolated(measure_resnet18, 32, 128)
    assert measured["images_per_s"] * measured["seconds"] == pytest.approx(128)
