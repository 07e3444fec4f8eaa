"""The timing of the notebook's training."""

from pathlib import Path

import pytest

from benchmarks import baseline


def test_time_of_some_batches_is_scaled_to_an_epoch(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)
    monkeypatch.setattr(baseline, "BATCH_SIZE", 10)
    result = baseline.measure_baseline()
    assert result["seconds"] * result["images_per_s"] == pytest.approx(330)
