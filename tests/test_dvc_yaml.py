"""What dvc.yaml says of each stage, held against what its code does."""

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.params import Params, Section, load_params
from tests.conftest import ROOT, Stage, pipeline

STAGES: dict[str, Any] = yaml.safe_load(pipeline())["stages"]


def imports(path: Path) -> set[Path]:
    """The first-party modules that a file imports, itself included, transitively."""
    found, waiting = set(), [path]
    while waiting:
        here = waiting.pop()
        if here in found:
            continue
        found.add(here)
        for node in ast.walk(ast.parse(here.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            candidates = (ROOT / f"{name.replace('.', '/')}.py" for name in names)
            waiting += [candidate for candidate in candidates if candidate.is_file()]
    return found


@pytest.mark.parametrize("name", STAGES)
def test_deps_are_the_imports(name: str) -> None:
    """A missing module would be a stale result, one too many a needless rerun."""
    declared = {dep for dep in STAGES[name]["deps"] if dep.startswith(("src", "stages"))}
    paths = {path.relative_to(ROOT) for path in imports(ROOT / f"stages/{name}.py")}
    assert declared == {"/".join(path.parts[:2]) for path in paths}


@pytest.mark.parametrize("name", STAGES)
def test_paths_on_the_command_line_are_declared(name: str) -> None:
    """Every path of a stage's command is a dependency or an output of it, and every output is on its command."""
    spec = STAGES[name]
    kinds = (spec.get(kind, []) for kind in ("outs", "metrics", "plots"))
    outs = {item if isinstance(item, str) else next(iter(item)) for kind in kinds for item in kind}
    words = {word for word in spec["cmd"].split() if "/" in word} - {
        "data/raw/mnist",
        "data/checkpoints",
    }  # kept over runs
    data = {dep for dep in spec["deps"] if not dep.startswith(("src", "stages"))}
    assert words == outs | data


@pytest.mark.parametrize("name", STAGES)
def test_declared_params_are_the_params_read(
    name: str, stage: Stage, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each value that a stage reads is declared, and nothing is declared that it never reads."""
    before = list(STAGES)[: list(STAGES).index(name)]
    for earlier in before:
        stage(earlier, check=True)
    monkeypatch.chdir(tiny)
    params = load_params(Path("params.yaml"))
    read: set[str] = set()
    leaves = dict(_leaves(params, ""))
    plain = Section.__getattribute__

    def record(self: Section, key: str) -> Any:
        value = plain(self, key)
        if (id(self), key) in leaves:
            read.add(leaves[id(self), key])
        return value

    command = STAGES[name]["cmd"].split()[3:]
    options = zip(command[::2], command[1::2], strict=True)
    paths = {option[2:].replace("-", "_"): Path(value) for option, value in options}
    monkeypatch.setattr(Section, "__getattribute__", record)
    importlib.import_module(f"stages.{name}").main(params, **paths)

    declared = set(STAGES[name]["params"])
    undeclared = {leaf for leaf in read if not any(f"{leaf}.".startswith(f"{item}.") for item in declared)}
    unread = {item for item in declared if not any(f"{leaf}.".startswith(f"{item}.") for leaf in read)}
    assert (undeclared, unread) == (set(), set())


def _leaves(section: Section, prefix: str) -> list[tuple[tuple[int, str], str]]:
    found = []
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, Section):
            found += _leaves(value, f"{prefix}{key}.")
        else:
            found.append(((id(section), key), f"{prefix}{key}"))
    return found


def test_every_stage_says_what_it_does() -> None:
    """`dvc stage list` has a line for each."""
    assert list(STAGES) == ["prepare", "inspect", "train", "evaluate", "plot"]
    assert all(spec["desc"] for spec in STAGES.values())
    assert Params.model_fields.keys() == STAGES.keys() | {"model"}
