"""Files that other tools read: GitHub, editors, pre-commit."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from src.params import Params, load_yaml, override, read_recipe
from tests.helpers import ROOT

SCHEMA = json.loads((ROOT / ".vscode/params.schema.json").read_text())
RECIPES = sorted((ROOT / "benchmarks/recipes").glob("*.txt"))


@pytest.mark.parametrize(
    ("schema", "file"), [("github-workflows", ".github/workflows/ci.yml"), ("dependabot", ".github/dependabot.yml")]
)
def test_files_of_github_match_their_schema(schema: str, file: str) -> None:
    command = ["-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", file]
    done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_actions_are_pinned_by_commit() -> None:
    workflows = "".join(path.read_text() for path in (ROOT / ".github/workflows").iterdir())
    actions = re.findall(r"uses: (.*)", workflows)
    assert len(actions) >= 2
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v[\d.]+", action) for action in actions), actions


def test_checkout_keeps_no_token() -> None:
    workflow = load_yaml((ROOT / ".github/workflows/ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    (checkout,) = [step for step in steps if "actions/checkout@" in step.get("uses", "")]
    assert checkout["with"]["persist-credentials"] is False


def test_pre_commit_calls_commands_of_the_environment() -> None:
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    programs = {hook["entry"].split()[0] for hook in repo["hooks"]}
    assert programs == {"ruff", "dvc"}
    assert all((Path(sys.executable).parent / program).exists() for program in programs)


def test_committed_schema_of_params_yaml_is_current() -> None:
    hint = "python -m src.params --schema > .vscode/params.schema.json"
    assert Params.model_json_schema() == SCHEMA, hint


@pytest.mark.parametrize("recipe", [None, *RECIPES], ids=str)
def test_params_yaml_and_recipes_match_the_schema(recipe: Path | None) -> None:
    values = load_yaml((ROOT / "params.yaml").read_text())
    override(values, read_recipe(recipe) if recipe else {})
    jsonschema.validate(values, SCHEMA)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train.epoch", 3, "'epoch' was unexpected"),
        ("train.epochs", -1, "-1 is less than or equal to the minimum"),
        ("train.optimizer", "adam", "'adam' is not one of"),
        ("train.normalize", "none", "'none' is not valid under any of the given schemas"),
    ],
)
def test_schema_refuses_mistakes(key: str, value: object, message: str) -> None:
    values = load_yaml((ROOT / "params.yaml").read_text())
    override(values, {key: value})
    with pytest.raises(jsonschema.ValidationError, match=message):
        jsonschema.validate(values, SCHEMA)


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.stem)
def test_help_of_each_tool_has_an_example(path: Path) -> None:
    """Its docstring is the description in --help."""
    if "ArgumentParser" in path.read_text():
        assert f"\npython -m tools.{path.stem} " in (ast.get_docstring(ast.parse(path.read_text())) or "")
        assert "description=__doc__" in path.read_text()
