"""tools.verify runs the pipeline in a clone. `make verify` compares two clones on real MNIST."""

from pathlib import Path

import pytest

from src.runtime.errors import PipelineError
from tests.helpers import environment
from tools.verify import recorded_outputs, reproduce


@pytest.fixture(autouse=True)
def venv_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", environment()["PATH"])


def test_reproduce_returns_the_outputs_of_the_clone(clone: Path) -> None:
    assert reproduce(clone, {}) == recorded_outputs(clone)


def test_failing_pipeline_is_an_error_with_its_output(clone: Path) -> None:
    with pytest.raises(PipelineError, match=r"`dvc repro --no-run-cache` exits with status (?s:.*)train\.epochs"):
        reproduce(clone, {"train.epochs": -1.0})
