"""tools.verify runs the pipeline in a clone. `make verify` compares two clones on real MNIST."""

import shutil
from pathlib import Path

import pytest

from src.runtime.errors import PipelineError
from tools.verify import recorded_outputs, reproduce


def test_reproduce_returns_the_outputs_of_the_clone(finished_clone: Path) -> None:
    assert reproduce(finished_clone, {}) == recorded_outputs(finished_clone)


def test_failing_pipeline_is_an_error_with_its_output(finished_clone: Path, tmp_path: Path) -> None:
    clone = Path(shutil.copytree(finished_clone, tmp_path / "clone", symlinks=True))
    with pytest.raises(PipelineError, match=r"`dvc repro --no-run-cache` exits with status (?s:.*)train\.epochs"):
        reproduce(clone, {"train.epochs": -1.0})
