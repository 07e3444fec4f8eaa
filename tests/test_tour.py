"""The notebook is executed as a person would, in Jupyter's own kernel."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.conftest import ROOT, environment


@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_the_tour_runs_from_start_to_end(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cell fails, the network has the notebook's size, and two pictures are shown."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    tour = nbformat.read(ROOT / "notebooks/tour.ipynb", as_version=4)
    nbformat.validate(tour)
    assert not any(cell.get("outputs") for cell in tour.cells)  # they would be old ones
    NotebookClient(
        tour, timeout=120, kernel_name="python3", resources={"metadata": {"path": clone / "notebooks"}}
    ).execute()
    outputs = [output for cell in tour.cells for output in cell.get("outputs", [])]
    text = "".join(str(output.get("text", "")) for output in outputs)
    assert "Total params: 593,200" in text
    assert "EpochRecord(epoch=1" in text
    assert "metrics/evaluate.json" in text
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
