"""The recipes in benchmarks/recipes."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.bench import SEEDS, recipe_params
from tests.helpers import ROOT

RECIPES = sorted((ROOT / "benchmarks/recipes").glob("*.txt"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_has_valid_parameters_and_words_that_need_no_quotes(path: Path, params: SimpleNamespace) -> None:
    assert recipe_params(path.stem, {}) != params
    assert all(re.fullmatch(r"--set-param=[a-z_.]+=[\w./+-]+", line) for line in path.read_text().splitlines())


def test_every_measured_recipe_exists() -> None:
    assert {*SEEDS} - {"default"} <= {path.stem for path in RECIPES}
