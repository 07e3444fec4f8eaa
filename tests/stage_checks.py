"""Compare what dvc.yaml declares for a stage with what the stage does."""

import ast
import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

from src.params import StrictModel, load_params

CODE = ("src", "stages")
RUNTIME_LOCK = "requirements.txt"
UNDECLARED = ("data/raw", "data/checkpoints", "data/training_times.csv", ".dvc/tmp")  # kept between runs, on purpose


@dataclass
class Recording:
    """What a stage did: the parameters and files it read, the files it wrote. Folders are not listed."""

    parameters: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)


def load_stages(project: Path) -> dict[str, Any]:
    """Return the stages of a project's dvc.yaml, with its one parameter filled in."""
    text = (project / "dvc.yaml").read_text().replace("${prepare.dataset}", "mnist")
    stages: dict[str, Any] = yaml.safe_load(text)["stages"]
    return stages


def is_code(dependency: str) -> bool:
    return dependency.split("/")[0] in CODE or dependency.startswith("requirements")


def data_dependencies(spec: dict[str, Any]) -> set[str]:
    return {dependency for dependency in spec["deps"] if not is_code(dependency)}


def outputs(spec: dict[str, Any]) -> set[str]:
    """Return the paths under outs, metrics and plots."""
    items = (item for kind in ("outs", "metrics", "plots") for item in spec.get(kind, []))
    return {item if isinstance(item, str) else next(iter(item)) for item in items}


def imported_files(project: Path, file: Path) -> set[Path]:
    """Return `file` and the project files that it imports, also indirectly and inside functions."""
    found, pending = set(), [file]
    while pending:
        path = pending.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        package = path.relative_to(project).parent.parts
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = [alias.name.split(".") for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = [*package[: len(package) - node.level + 1]] if node.level else []
                base += node.module.split(".") if node.module else []
                names = [base, *([*base, alias.name] for alias in node.names)]
            else:
                continue
            for parts in names:
                if parts and parts[0] in CODE:
                    pending.append(project.joinpath(*parts).with_suffix(".py"))
                    pending += [project.joinpath(*parts[:end], "__init__.py") for end in range(1, len(parts) + 1)]
    return {path for path in found if ast.parse(path.read_text()).body}  # an empty __init__.py changes nothing


def code_dependencies(project: Path, stage: str) -> set[str]:
    """Return what a stage has to declare for its code: the libraries, its own file, files and folders of src."""
    paths = imported_files(project, project / f"stages/{stage}.py")
    return {RUNTIME_LOCK, *("/".join(path.relative_to(project).parts[:2]) for path in paths)}


def check_code_dependencies(project: Path, stage: str) -> None:
    """Fail unless `deps` names exactly the code that the stage imports. A missing one would give stale results."""
    deps = load_stages(project)[stage]["deps"]
    expected = code_dependencies(project, stage)
    data = [dependency for dependency in deps if not is_code(dependency)]
    assert {dependency for dependency in deps if is_code(dependency)} == expected, _to_paste(
        stage, "deps", [*data, *sorted(expected)]
    )


def check_parameters(project: Path, stage: str, recording: Recording) -> None:
    """Fail unless `params` covers every parameter that the stage reads, and names none that it does not read."""
    declared = load_stages(project)[stage].get("params", [])
    unread = {item for item in declared if not any(_covers([item], name, ".") for name in recording.parameters)}
    undeclared = {name for name in recording.parameters if not _covers(declared, name, ".")}
    assert not (unread | undeclared), _to_paste(stage, "params", sorted({*declared, *undeclared} - unread))


def check_files(project: Path, stage: str, recording: Recording) -> None:
    """Fail unless the stage reads exactly its data dependencies and writes exactly its outputs."""
    spec = load_stages(project)[stage]
    declared = data_dependencies(spec)
    unread = {item for item in declared if not any(_covers([item], path, "/") for path in recording.read)}
    undeclared = {path for path in recording.read if not _covers(declared, path, "/")}
    assert not (unread | undeclared), _to_paste(
        stage, "deps", [*sorted({*declared, *undeclared} - unread), *sorted(code_dependencies(project, stage))]
    )
    assert recording.written == outputs(spec), _to_paste(
        stage, "outs, metrics and plots together", sorted(recording.written)
    )


def record_stages(project: Path, data: Path, scratch: Path) -> dict[str, Recording]:
    """Run all stages of a project and record each.

    Args:
        project: the folder of dvc.yaml, stages and src.
        data: params.yaml and the raw files. Outputs are added.
        scratch: an empty folder.
    """
    stages = load_stages(project)
    producers = {path: stage for stage, spec in stages.items() for path in outputs(spec)}
    order = TopologicalSorter(
        {
            stage: {producers[path] for path in data_dependencies(spec) if path in producers}
            for stage, spec in stages.items()
        }
    )
    return {stage: record_stage(project, stage, data, scratch / stage) for stage in order.static_order()}


def record_stage(project: Path, stage: str, data: Path, scratch: Path) -> Recording:
    """Run a stage in this process, in a folder that holds only its declared data, and record what it does.

    Args:
        project: the folder of dvc.yaml, stages and src.
        stage: its name.
        data: a folder with params.yaml and the stage's data dependencies. Outputs are added.
        scratch: the folder to run in, which must not exist.
    """
    spec = load_stages(project)[stage]
    for path in ("params.yaml", *data_dependencies(spec), *UNDECLARED):
        _copy(data / path, scratch / path)
    before, recording = _files(scratch), Recording()
    words = spec["cmd"].split()
    assert words[:3] == ["python", "-m", f"stages.{stage}"]
    paths = {
        option.removeprefix("--").replace("-", "_"): Path(value)
        for option, value in zip(words[3::2], words[4::2], strict=True)
    }
    params = load_params(scratch / "params.yaml")
    leaves = dict(_leaves(params, ""))
    get_attribute = StrictModel.__getattribute__

    def record_parameter(section: StrictModel, key: str) -> Any:
        if (id(section), key) in leaves:
            recording.parameters.add(leaves[id(section), key])
        return get_attribute(section, key)

    module_spec = importlib.util.spec_from_file_location(f"stages.{stage}", project / f"stages/{stage}.py")
    assert module_spec
    assert module_spec.loader
    module = importlib.util.module_from_spec(module_spec)
    opened: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(scratch)
        patch.setattr(StrictModel, "__getattribute__", record_parameter)
        patch.setitem(sys.modules, module.__name__, module)
        module_spec.loader.exec_module(module)
        _record_opened_files(opened)
        try:
            module.main(params, **paths)
        finally:
            _record_opened_files(None)
        read = {Path(os.fsdecode(path)).resolve() for path in opened}
    after = _files(scratch)
    recording.written = {path for path in after if after[path] != before.get(path)}
    recording.read = {
        str(path.relative_to(scratch.resolve()))
        for path in read
        if scratch.resolve() in path.parents and (path.is_file() or not path.exists())
    } - {*recording.written, "params.yaml"}
    recording.read = {
        path for path in recording.read if not _covers(UNDECLARED, path, "/") and not path.endswith(".part")
    }
    for path in recording.written:
        _copy(scratch / path, data / path)
    return recording


def _to_paste(stage: str, key: str, lines: Iterable[str]) -> str:
    return "\n".join(
        [f"dvc.yaml, stage {stage}, {key}: expected exactly these lines", *(f"      - {x}" for x in lines)]
    )


def _covers(items: Iterable[str], name: str, separator: str) -> bool:
    """Return whether one of `items` is `name` or contains it."""
    return any(f"{name}{separator}".startswith(f"{item}{separator}") for item in items)


def _leaves(section: StrictModel, prefix: str) -> Iterable[tuple[tuple[int, str], str]]:
    """Yield the object and key, and the dotted name, of each parameter."""
    for key in type(section).model_fields:
        value = getattr(section, key)
        if isinstance(value, StrictModel):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield (id(section), key), f"{prefix}{key}"


def _files(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and modification time of the files in a folder, by path."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {
        name: (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in paths
        if not _covers(UNDECLARED, name := str(path.relative_to(folder)), "/")
    }


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target)
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


_opened: list[Any] | None = None


def _record_opened_files(opened: list[Any] | None) -> None:
    """Append the paths that this process opens for reading to a list, until called with None."""
    global _opened  # an audit hook cannot be removed
    _install_audit_hook()
    _opened = opened


@functools.cache
def _install_audit_hook() -> None:
    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and _opened is not None:
            path, _, flags = arguments
            if isinstance(path, str | bytes | os.PathLike) and flags & os.O_ACCMODE != os.O_WRONLY:
                _opened.append(path)

    sys.addaudithook(hook)
