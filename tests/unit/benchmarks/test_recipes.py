"""The recipes in benchmarks/recipes."""

import re
from pathlib import Path

import pytest

from benchmarks.bench import SEEDS
from src.params.base import check_sections
from tests.helpers import ROOT, parameters
from tools.recipes import SCHEMAS, load_recipe, override

RECIPES = sorted((ROOT / "benchmarks/recipes").glob("*.txt"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_has_valid_parameters_and_words_that_need_no_quotes(path: Path) -> None:
    values = parameters()
    override(values, load_recipe(str(path)))
    check_sections(values, SCHEMAS, path)
    assert all(re.fullmatch(r"--set-param=[a-z_.]+=[\w./+-]+", line) for line in path.read_text().splitlines())


def test_every_measured_recipe_exists() -> None:
    assert {*SEEDS} - {"default"} <= {path.stem for path in RECIPES}
