"""`dvc` reruns exactly the stages that a change concerns, and stages can be added."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.helpers import ROOT, new_clone, run
from tests.stage_checks import (
    check_code_dependencies,
    check_files,
    check_parameters,
    load_stages,
    outputs,
    record_stage,
)


def changed_dependencies(folder: Path) -> dict[str, set[str]]:
    """Return the changed dependencies of each stage, as `dvc status` reports them."""
    changes = json.loads(run(["dvc", "status", "--json"], folder).stdout)
    return {
        stage: {path for item in items if isinstance(item, dict) for path in item.get("changed deps", {})}
        for stage, items in changes.items()
    }


def append_comment(file: Path) -> None:
    file.write_text(file.read_text() + "\n# edited\n")


def test_stage_without_parameters_can_be_added_as_the_readme_shows(clone: Path, tmp_path: Path) -> None:
    """It runs, it declares everything that it uses, and no other stage has to run."""
    section = (ROOT / "README.md").read_text().split("**Add a stage.**")[1]
    code, entry = (re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)[0] for language in ("python", "yaml"))
    file = code.splitlines()[0].removeprefix("# ")
    stage = Path(file).stem
    (clone / file).write_text(code)
    dvc_yaml = (clone / "dvc.yaml").read_text()
    assert "\nplots:\n" in dvc_yaml  # the first section after the stages
    (clone / "dvc.yaml").write_text(dvc_yaml.replace("\nplots:\n", f"\n{entry}\nplots:\n", 1))
    assert "params" not in load_stages(clone)[stage]
    assert f"Running stage '{stage}'" in run(["dvc", "repro", stage], clone).stdout
    recording = record_stage(clone, stage, clone, tmp_path / "scratch")
    assert recording.written == outputs(load_stages(clone)[stage])
    check_code_dependencies(clone, stage)
    check_parameters(clone, stage, recording)
    check_files(clone, stage, recording)
    assert "up to date" in run(["dvc", "repro"], clone).stdout


def test_edited_file_or_folder_of_src_reruns_exactly_the_stages_that_declare_it(clone: Path) -> None:
    """Edit all top-level files and folders at once, and read from `dvc status` what changed for each stage."""
    parts = [path for path in (clone / "src").iterdir() if path.name not in ("__init__.py", "__pycache__")]
    for part in parts:
        append_comment(part if part.is_file() else max(part.glob("*.py"), key=lambda file: file.stat().st_size))
    declared = {
        stage: {dependency for dependency in spec["deps"] if dependency.startswith("src/")}
        for stage, spec in load_stages(clone).items()
    }
    assert changed_dependencies(clone) == declared
    assert set().union(*declared.values()) == {f"src/{part.name}" for part in parts}


@pytest.mark.parametrize(
    ("file", "stages"),
    [
        ("src/reporting/plots.py", {"plot"}),
        ("src/sources/idx.py", {"prepare"}),
        ("src/audit.py", {"inspect"}),
        ("src/training/loop.py", {"train"}),
        ("stages/evaluate.py", {"evaluate"}),
        ("requirements-dev.txt", set()),
    ],
)
def test_edited_file_changes_the_stages_that_use_it(clone: Path, file: str, stages: set[str]) -> None:
    append_comment(clone / file)
    assert set(changed_dependencies(clone)) == stages


def test_changed_runtime_libraries_change_every_stage(clone: Path) -> None:
    append_comment(clone / "requirements.txt")
    assert changed_dependencies(clone) == {stage: {"requirements.txt"} for stage in load_stages(clone)}


def test_compiled_python_files_change_no_stage(clone: Path) -> None:
    """Python writes `__pycache__` into the folders of src that DVC hashes."""
    for folder in (path for path in (clone / "src").iterdir() if path.is_dir()):
        (folder / "__pycache__").mkdir(exist_ok=True)
        (folder / "__pycache__/other.cpython-311.pyc").write_bytes(b"compiled")
    assert changed_dependencies(clone) == {}


@pytest.fixture(scope="module")
def fresh_clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which nothing has run."""
    return new_clone(tmp_path_factory.mktemp("fresh"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("  seed: 0", "  seed: 0\n  seed: 1", id="duplicate key"),
        pytest.param("  seed: 0", "  seed: [0", id="broken YAML"),
    ],
)
def test_dvc_rejects_ambiguous_params_yaml(fresh_clone: Path, tmp_path: Path, old: str, new: str) -> None:
    folder = shutil.copytree(fresh_clone, tmp_path / "clone")
    text = (folder / "params.yaml").read_text()
    assert old in text
    (folder / "params.yaml").write_text(text.replace(old, new, 1))
    done = run(["dvc", "repro"], folder, check=False)
    assert done.returncode
    assert "params.yaml" in done.stderr
    assert "Running stage" not in done.stdout
