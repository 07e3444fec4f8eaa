"""The timing of the notebook's training."""

from types import SimpleNamespace

import pytest

from benchmarks import baseline
from tests.helpers import random_dataset


def test_time_of_the_measured_batches_is_scaled_to_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 104.0])
    monkeypatch.setattr(baseline, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(baseline, "BATCH_SIZE", 10)
    monkeypatch.setattr(baseline, "TIMED", 2)
    # 2 batches of 10 images take 4 seconds, so 600 images take 120
    assert baseline.seconds_per_epoch(random_dataset(600)) == pytest.approx(120)
