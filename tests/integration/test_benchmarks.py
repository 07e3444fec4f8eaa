"""Measurements in their own processes."""

from pathlib import Path

import pytest

from benchmarks.bench import measure, run_isolated
from tests.helpers import ROOT


def test_measurement_has_seconds_images_and_a_reproducible_accuracy(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tiny)
    first, second = (run_isolated(measure, "dash", {"train.seed": 3, "train.epochs": 5}) for _ in range(2))
    assert first["accuracy"] == second["accuracy"] > 0.1
    assert first["images_per_s"] * first["seconds"] == pytest.approx(330 * 5)
    assert 0 < first["seconds"] < 60
