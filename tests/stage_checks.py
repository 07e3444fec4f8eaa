"""Compare what dvc.yaml declares for a stage with its code."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

CODE = ("src", "stages", "requirements")


def load_stages(project: Path) -> dict[str, Any]:
    """Return the stages of a project's dvc.yaml, with its one parameter filled in."""
    text = (project / "dvc.yaml").read_text().replace("${prepare.dataset}", "mnist")
    stages: dict[str, Any] = yaml.safe_load(text)["stages"]
    return stages


def data_dependencies(spec: dict[str, Any]) -> set[str]:
    return {path for path in spec["deps"] if not path.startswith(CODE)}


def outputs(spec: dict[str, Any]) -> set[str]:
    """Return the paths under outs, metrics and plots."""
    items = (item for kind in ("outs", "metrics", "plots") for item in spec.get(kind, []))
    return {item if isinstance(item, str) else next(iter(item)) for item in items}


def covers(dependencies: Iterable[str], file: str) -> bool:
    """Return whether one of the dependencies is the file or a folder that contains it."""
    return any(f"{file}/".startswith(f"{dependency}/") for dependency in dependencies)


def imported_files(project: Path, file: str) -> set[str]:
    """Return `file` and the project files that it imports, also indirectly and inside functions.

    `from package import subpackage` counts as an import of all modules in the subpackage.
    """
    found, pending = set(), [project / file]
    while pending:
        path = pending.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        code = re.sub(r"(?m)^if TYPE_CHECKING:\n(    .*\n)+", "", path.read_text())
        for node in ast.walk(ast.parse(code)):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.module, f"{path}: relative import"
                names = [node.module]
                for member in (f"{node.module}.{alias.name}" for alias in node.names):
                    names.append(member)
                    pending += (project / member.replace(".", "/")).glob("*.py")
            for parts in (name.split(".") for name in names):
                pending.append(project.joinpath(*parts).with_suffix(".py"))
                pending += [project.joinpath(*parts[:end], "__init__.py") for end in range(1, len(parts) + 1)]
    return {str(path.relative_to(project)) for path in found if path.stat().st_size}


def check_code(project: Path, stage: str) -> None:
    """Fail unless `deps` covers exactly the code that the stage imports. A missing file would give stale results."""
    deps = load_stages(project)[stage]["deps"]
    files = {"requirements.txt", *imported_files(project, f"stages/{stage}.py")}
    used = {path for path in deps if any(covers([path], file) for file in files)}
    missing = {file for file in files if not covers(deps, file)}
    expect(stage, "deps", deps, used | missing | data_dependencies({"deps": deps}))


def check_params(project: Path, stage: str) -> None:
    """Fail unless `params` names exactly the sections in the signature of the stage's `main`."""
    tree = ast.parse((project / f"stages/{stage}.py").read_text())
    (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    sections = {item.arg for item in main.args.args if item.annotation and ast.unparse(item.annotation) != "Path"}
    expect(stage, "params", load_stages(project)[stage].get("params", []), sections)


def expect(stage: str, key: str, declared: Iterable[str], expected: Iterable[str]) -> None:
    """Fail with the lines to paste into dvc.yaml unless both are equal."""
    lines = "".join(f"\n      - {item}" for item in sorted(expected))
    assert set(declared) == set(expected), f"dvc.yaml, stage {stage}, {key}: expected exactly these lines{lines}"
