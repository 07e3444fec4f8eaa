"""The notebook runs in Jupyter's own kernel."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from tests.helpers import environment


@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_tour_runs_from_start_to_end(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No cell fails, and it shows the network's size, the history of a training run, metrics and two pictures."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    tour = nbformat.read(clone / "notebooks/tour.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in tour.cells)  # committed outputs would become stale
    folder = {"metadata": {"path": clone / "notebooks"}}
    NotebookClient(tour, timeout=120, kernel_name="python3", resources=folder).execute()
    outputs = [output for cell in tour.cells for output in cell.get("outputs", [])]
    text = "".join(str(output.get("text", "")) for output in outputs)
    for words in ("Total params: 141,642", "epoch 0.4  learning rate", "validation loss", "metrics/evaluate.json"):
        assert words in text
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2
