"""Sections of params.yaml are closed, typed schemas: every mistake is listed by its dotted key, all at once."""

import tracemalloc
from pathlib import Path

import pytest
from dvc.utils.serialize import parse_yaml

from src.params.base import check_sections, load_sections, load_yaml
from src.params.model import ModelParams
from src.runtime.errors import PipelineError
from tests.helpers import ROOT
from tools.recipes import SCHEMAS, override

TEXT = (ROOT / "params.yaml").read_text()


def error_of(**changes: str) -> str:
    """Return the error after changes, by section__key."""
    values = load_yaml(TEXT)
    override(values, {name.replace("__", "."): load_yaml(text) for name, text in changes.items()})
    with pytest.raises(PipelineError) as error:
        check_sections(values, SCHEMAS, "params.yaml")
    return str(error.value)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("train__epochs", "'5'", "train.epochs: found '5', expected a valid number"),
        ("train__Epochs", "5", "train.Epochs: unknown key; did you mean epochs?"),
        ("train__learning_rate", ".nan", "train.learning_rate: found nan, expected a finite number"),
        ("compute__portable", "yes", "compute.portable: found 'yes', expected a valid boolean"),
        ("prepare__group", "(", "prepare.group: `(` is not a regular expression: missing ), unterminated subpattern"),
    ],
)
def test_mistake_is_listed_by_its_dotted_key(key: str, text: str, expected: str) -> None:
    assert error_of(**{key: text}).startswith(f"error: params.yaml has 1 mistake:\n       {expected}")


def test_all_mistakes_are_listed_at_once() -> None:
    values = load_yaml(TEXT)
    del values["compute"], values["train"]["epochs"]
    override(values, {"train.epochz": 1, "train.optimizer": "adam", "augmentation.zebra": 1})
    with pytest.raises(PipelineError) as error:
        check_sections(values, SCHEMAS, "params.yaml")
    keys = ", ".join(SCHEMAS["augmentation"].model_fields)
    assert str(error.value).splitlines() == [
        "error: params.yaml has 5 mistakes:",
        "       train.epochs: missing",
        "       train.optimizer: found 'adam', expected 'sgd', 'adamw' or 'muon'",
        "       train.epochz: unknown key; did you mean epochs?",
        f"       augmentation.zebra: unknown key; known keys: {keys}",
        "       compute: missing",
        "hint: dvc params diff   # correct the values, then: dvc repro",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train__schedule": "step", "train__warmup": "0.1"}, "schedule `step` has no warmup: set train.warmup to 0"),
        ({"prepare__dataset": "mnist", "prepare__channels": "3"}, "mnist has gray images of 28 x 28 pixels: set image"),
    ],
)
def test_contradictions_in_a_section_are_errors(changes: dict[str, str], message: str) -> None:
    assert message in error_of(**changes)


def test_only_the_sections_of_a_stage_are_checked(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: {epochs: many}\nmodel: {name: dash, pretrained: false}")
    sections = load_sections(tmp_path / "params.yaml", {"model": ModelParams})
    assert sections == {"model": ModelParams(name="dash", pretrained=False)}


def test_numbers_match_those_in_dvc_lock() -> None:
    """dvc.lock names the value that was used."""
    numbers = ["1e-3", "0200", "3.", ".5", "-0", "0x1f", "0b1", "0o17", "1_000", "1:30", ".inf", "yes", "true", "08"]
    text = "\n".join(f"{index}: {number}" for index, number in enumerate(numbers))
    assert repr(load_yaml(text)) == repr(parse_yaml(text, "params.yaml"))


def test_nested_aliases_are_an_error_that_does_not_expand_them() -> None:
    """17 lists of two aliases each print as 131,072 items, and 40 would fill the memory."""
    bomb = "[&a0 [x], " + ", ".join(f"&a{n + 1} [*a{n}, *a{n}]" for n in range(17)) + "]"
    tracemalloc.start()
    try:
        assert "train.epochs: found [" in error_of(train__epochs=bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()
