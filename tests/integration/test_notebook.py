"""The notebook runs in Jupyter's own kernel."""

import shutil
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers import ROOT, environment


@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_tour_runs_from_start_to_end(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cell fails, and it shows the network's size, the history of a training run, metrics and two pictures."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    tour = nbformat.read(ROOT / "notebooks/tour.ipynb", as_version=4)
    nbformat.validate(tour)
    assert not any(cell.get("outputs") for cell in tour.cells)  # committed outputs would become stale
    shutil.copy(ROOT / "notebooks/tour.ipynb", clone / "notebooks")
    folder = {"metadata": {"path": clone / "notebooks"}}
    NotebookClient(tour, timeout=120, kernel_name="python3", resources=folder).execute()
    outputs = [output for cell in tour.cells for output in cell.get("outputs", [])]
    text = "".join(str(output.get("text", "")) for output in outputs)
    assert "Total params: 141,642" in text
    assert "/0.25  learning rate" in text
    assert "validation loss" in text
    assert "metrics/evaluate.json" in text
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
