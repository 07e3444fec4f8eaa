"""params.yaml is a closed, typed schema: every mistake is named, all at once, before any work."""

import re
from pathlib import Path

import pytest
import yaml
from dvc.utils.serialize import loads_yaml
from pydantic import ValidationError

from src.errors import PipelineError
from src.params import Params, load_params
from tests.conftest import ROOT, Stage, is_block

TEXT = (ROOT / "params.yaml").read_text()
for key, value in {"epochs": "3", "batch_size": "128", "learning_rate": "0.04"}.items():  # whatever the default is
    TEXT = re.sub(rf"(  {key}: )\S+", rf"\g<1>{value}", TEXT)
MISTAKES = [
    ("  epochs: 3", "  epoch: 2", "train.epoch: Extra inputs are not permitted, found 2; did you mean epochs?"),
    ("  epochs: 3", "  epochs: 2\n  epochs: 3", 'found duplicate key "epochs"'),
    ("  epochs: 3", "  epochs: two", "train.epochs: Input should be a valid number, found 'two'"),
    ("  epochs: 3", "  epochs: true", "train.epochs: Input should be a valid number, found True"),
    ("  batch_size: 128", "  batch_size: 2.5", "train.batch_size: Input should be a valid integer, found 2.5"),
    ("  name: net", "  name: dash", "model `dash` reads 28 x 28 pixels only"),
    ("  low_resolution: 0.8", "  low_resolution: 1", "low_resolution must be below 1"),
    ("  batch_norm: true", "  batch_norm: 1", "train.batch_norm: Input should be a valid boolean, found 1"),
    ("  epochs: 3", "  epochs: 1:30", "train.epochs: Input should be a valid number, found '1:30'"),
    ("  epochs: 3", "  epochs: 3\n  <<: {epochs: 4}", "<<: expected a plain value"),
    ("  epochs: 3", "  epochs: 0", "train.epochs: Input should be greater than 0, found 0"),
    ("  epochs: 3", "  epochs: !!python/object/apply:os.system [ls]", "tag"),
    ("  epochs: 3", "  epochs: &a 2", "<anchor> a: expected a plain value"),
    ("  epochs: 3", "", "train.epochs: Field required"),
    ("  epochs: 3", "  epochs: [2", "while parsing a flow sequence"),
    ("rate: 0.04", "rate: -0.02", "train.learning_rate: Input should be greater than 0, found -0.02"),
    ("rate: 0.04", "rate: .nan", "train.learning_rate: Input should be a finite number, found nan"),
    ("rate: 0.04", "rate: .inf", "train.learning_rate: Input should be a finite number, found inf"),
    ("rate: 0.04", "rate: '0.02'", "train.learning_rate: Input should be a valid number, found '0.02'"),
    ("optimizer: muon", "optimizer: adam", "train.optimizer: Input should be 'sgd', 'adamw' or 'muon', found 'adam'"),
    ("schedule: linear", "schedule: step", "warmup must be 0"),
    ("evaluate:", "evaluated:", "evaluated: Extra inputs are not permitted; did you mean evaluate?"),
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
    assert is_block(done, "train.epochz", "train.batch_size", "plot.dpy", "did you mean dpi?", "line ")
    assert not (tiny / "data/prepared").exists()


@pytest.mark.parametrize(("text", "value"), [("1e-3", 0.001), ("010", 10)])
def test_numbers_of_yaml_1_2(tmp_path: Path, text: str, value: float) -> None:
    """1e-3 is a number, as DVC writes it, and 010 no octal one."""
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("rate: 0.04", f"rate: {text}"))
    assert load_params(path).train.learning_rate == value == loads_yaml(text)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[]", b"\x00"])
def test_what_is_no_parameter_file(tmp_path: Path, content: bytes) -> None:
    """Empty, not UTF-8, a list, control characters: an error for a person, each time."""
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    with pytest.raises(PipelineError):
        load_params(path)
    path.unlink()
    with pytest.raises(PipelineError, match="No such file"):
        load_params(path)
