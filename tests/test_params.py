"""params.yaml is a closed, typed schema: every mistake is named, all at once, before any work."""

import re
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import parse_yaml
from pydantic import ValidationError

from src.params import Params, load_params
from src.runtime.errors import PipelineError
from tests.conftest import ROOT, Stage, is_block

TEXT = (ROOT / "params.yaml").read_text()
for key, value in {"epochs": "3", "batch_size": "128", "learning_rate": "0.04"}.items():  # whatever the default is
    TEXT = re.sub(rf"(  {key}: )\S+", rf"\g<1>{value}", TEXT)
MISTAKES = [
    ("  epochs: 3", "  epoch: 2", "train.epoch: unknown key; did you mean epochs?"),
    ("  epochs: 3", "  epochs: 2\n  epochs: 3", 'duplicate key "epochs"'),
    ("  epochs: 3", "  epochs: two", "train.epochs: found 'two', expected: a valid number"),
    ("  epochs: 3", "  epochs: true", "train.epochs: found True, expected: a valid number"),
    ("  batch_size: 128", "  batch_size: 2.5", "train.batch_size: found 2.5, expected: a valid integer"),
    ("  name: net", "  name: dash", "model `dash` reads 28 x 28 pixels only"),
    ("  low_resolution: 0.8", "  low_resolution: 1", "low_resolution must be below 1"),
    ("  batch_norm: true", "  batch_norm: 1", "train.batch_norm: found 1, expected: a valid boolean"),
    ("  epochs: 3", "  epochs: 1:30", "train.epochs: found '1:30', expected: a valid number"),
    ("  epochs: 3", "  epochs: 0", "train.epochs: found 0, expected: greater than 0"),
    ("  epochs: 3", "  epochs: !!python/object/apply:os.system [ls]", "tag"),
    ("  epochs: 3", "  epochs: &a 2", "anchor a"),
    ("  epochs: 3", "", "train.epochs: missing"),
    ("  epochs: 3", "  epochs: [2", "not YAML"),
    ("rate: 0.04", "rate: -0.02", "train.learning_rate: found -0.02, expected: greater than 0"),
    ("rate: 0.04", "rate: .nan", "train.learning_rate: found nan, expected: a finite number"),
    ("rate: 0.04", "rate: .inf", "train.learning_rate: found inf"),
    ("rate: 0.04", "rate: '0.02'", "train.learning_rate: found '0.02', expected: a valid number"),
    ("optimizer: muon", "optimizer: adam", "train.optimizer: found 'adam', expected: 'sgd', 'adamw' or 'muon'"),
    ("schedule: linear", "schedule: step", "warmup must be 0"),
    ("  calibration_bins: 15", "  {}", "evaluate.calibration_bins: missing"),
    ("evaluate:", "evaluated:", "evaluated: unknown key; did you mean evaluate?"),
]


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES)
def test_each_mistake_is_named(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """The message says which key and what was expected, and the line where there is one."""
    assert old in TEXT
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(PipelineError) as error:
        load_params(path)
    assert expected in str(error.value)


@pytest.mark.parametrize(("key", "value"), [("low_resolution", 0.5), ("batch_norm", True)])
def test_small_networks_have_neither(params: Params, key: str, value: object) -> None:
    """Low resolution alone and batch normalisation alone are each a contradiction to `dash`."""
    values = params.model_dump()
    values["model"]["name"] = "dash"
    values["train"].update(low_resolution=0.0, batch_norm=False)
    assert Params.model_validate(values).model.name == "dash"
    values["train"][key] = value
    with pytest.raises(ValidationError, match="model `dash`"):
        Params.model_validate(values)


def test_all_mistakes_at_once(tiny: Path, stage: Stage) -> None:
    """Two typos and a wrong type in one run: one block lists all three, and nothing is written."""
    path = tiny / "params.yaml"
    values = yaml.safe_load(path.read_text())
    values["train"].update({"epochz": 1, "batch_size": "many"})
    values["plot"]["dpy"] = 100
    path.write_text(yaml.safe_dump(values))
    done = stage("prepare")
    assert is_block(done, "3 mistakes", "train.epochz", "train.batch_size", "plot.dpy", "did you mean dpi?", "line ")
    assert not (tiny / "data/prepared").exists()


@pytest.mark.parametrize("epochs", ["1e-3", "0200", "3.", ".5", "0x10", "3\n  <<: {epochs: 4}"])
def test_as_dvc_reads_it(tmp_path: Path, epochs: str) -> None:
    """YAML 1.2: 1e-3 is a number and 0200 is no octal one; dvc.lock then names the value that was used."""
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("  epochs: 3", f"  epochs: {epochs}"))
    assert load_params(path).model_dump() == parse_yaml(path.read_text(), path)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"\x00"])
def test_what_is_no_parameter_file(tmp_path: Path, content: bytes) -> None:
    """Empty, not UTF-8, a list, control characters: an error for a person, each time."""
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(PipelineError):
        load_params(path)
    path.unlink()
    with pytest.raises(PipelineError, match="no such file"):
        load_params(path)
