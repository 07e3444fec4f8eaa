"""All sections of params.yaml together, and recipes: files with parameters that differ from it."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ruamel.yaml.error import YAMLError

from src.params.augmentation import AugmentationParams
from src.params.base import Section, check_sections, load_yaml
from src.params.compute import ComputeParams
from src.params.evaluate import EvaluateParams
from src.params.inspect import InspectParams
from src.params.model import ModelParams
from src.params.prepare import PrepareParams
from src.params.train import TrainParams
from src.runtime.errors import PipelineError

PARAMS, FOLDER = Path("params.yaml"), Path(__file__).parents[1] / "benchmarks/recipes"
RECIPES = {path.stem: path for path in sorted(FOLDER.glob("*.txt"))}
SCHEMAS: dict[str, type[Section]] = {
    "prepare": PrepareParams,
    "inspect": InspectParams,
    "model": ModelParams,
    "train": TrainParams,
    "augmentation": AugmentationParams,
    "compute": ComputeParams,
    "evaluate": EvaluateParams,
}


@cache  # the leaderboard compares every experiment with every recipe
def load_recipe(name: str) -> dict[str, Any]:
    """Return the values by dotted key ("train.epochs") of a recipe: lines of `--set-param=key=value`.

    Args:
        name: one of `RECIPES`, the path of a file, or "default" for no values.

    Raises:
        PipelineError: there is no such recipe.
    """
    try:
        text = "" if name == "default" else RECIPES.get(name, Path(name)).read_text()
        pairs = (line.removeprefix("--set-param=").split("=", 1) for line in text.split())
        return {key: load_yaml(value) for key, value in pairs}
    except (OSError, ValueError, YAMLError):
        message = f"{name} is not a file of lines `--set-param=KEY=VALUE`, and not one of default, {', '.join(RECIPES)}"
        raise PipelineError(message, "cat benchmarks/recipes/sprint.txt   # is an example") from None


def load_params(changes: Mapping[str, object] | None = None) -> SimpleNamespace:
    """Return all sections of params.yaml by name, with some values changed, by dotted key.

    Raises:
        PipelineError: a value does not match the schema.
    """
    values = load_yaml(PARAMS.read_text())
    override(values, changes or {})
    return SimpleNamespace(**check_sections(values, SCHEMAS, PARAMS))


def override(values: dict[str, Any], changes: Mapping[str, object]) -> None:
    """Set values of sections in place, by dotted key. Raises KeyError if a section does not exist."""
    for name, value in changes.items():
        section, _, key = name.partition(".")
        values[section][key] = value
