"""The timing of the notebook's training."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks import baseline


def test_time_of_the_measured_batches_is_scaled_to_an_epoch(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 104.0])
    monkeypatch.chdir(tiny)
    monkeypatch.setattr(baseline, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(baseline, "BATCH_SIZE", 10)
    monkeypatch.setattr(baseline, "TIMED", 2)
    # 2 batches of 10 images take 4 seconds: 5 images per second, so 330 images take 66 seconds
    assert baseline.measure_baseline() == {"name": "baseline", "seconds": 66.0, "images_per_s": 5.0}
