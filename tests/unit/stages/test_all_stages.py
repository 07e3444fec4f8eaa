"""Properties of every stage."""

from pathlib import Path

import pytest

from tests.helpers import ROOT, edit_params, is_error, run_stage_in
from tests.stage_checks import load_stages

STAGES = list(load_stages(ROOT))


def test_equal_runs_write_equal_bytes(tiny: Path) -> None:
    edit_params(tiny, {"model.name": "dash", "train.epochs": 0.5})
    contents = []
    for _ in range(2):
        for stage in STAGES:
            run_stage_in(tiny, stage, check=True)
        files = [path for name in ("prepared", "model", "../metrics") for path in (tiny / "data" / name).iterdir()]
        contents.append({path.name: path.read_bytes() for path in files})
    assert len(contents[0]) > 15
    assert contents[0] == contents[1]


@pytest.mark.parametrize("stage", STAGES[1:])
def test_missing_data_are_an_error(tiny: Path, stage: str) -> None:
    assert is_error(
        run_stage_in(tiny, stage),
        "safetensors is not a prepared data set: no such file\nhint: dvc repro --force --single-item prepare",
    )
    assert not (tiny / "metrics").exists()
