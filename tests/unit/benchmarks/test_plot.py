"""The plot of the benchmark."""

import json
from pathlib import Path

from benchmarks.plot import plot_error_against_time
from tests.helpers import ROOT


def test_results_can_be_plotted(tmp_path: Path) -> None:
    plot_error_against_time(tmp_path / "a.png", json.loads((ROOT / "benchmarks/results.json").read_text()))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
