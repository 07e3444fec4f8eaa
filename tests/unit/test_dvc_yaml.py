"""dvc.yaml declares exactly what each stage imports, reads and writes."""

import shutil
from pathlib import Path

import pytest

from src.params import Params
from tests.helpers import ROOT, edit_params, write_tiny_project
from tests.stage_checks import (
    Recording,
    check_code_dependencies,
    check_files,
    check_parameters,
    code_dependencies,
    imported_files,
    load_stages,
    record_stages,
)

STAGES = load_stages(ROOT)


def test_every_file_in_stages_is_a_stage_of_dvc_yaml() -> None:
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"} == set(STAGES)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recording]:
    """What each stage does on the tiny data."""
    data = tmp_path_factory.mktemp("data")
    write_tiny_project(data)
    edit_params(data, {"train.epochs": 0.8})
    return record_stages(ROOT, data, tmp_path_factory.mktemp("stages"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of dvc.yaml, stages and src."""
    for folder in ("src", "stages"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    return tmp_path


@pytest.mark.parametrize("stage", STAGES)
def test_stage_declares_exactly_the_code_it_imports(stage: str) -> None:
    check_code_dependencies(ROOT, stage)


@pytest.mark.parametrize("stage", STAGES)
def test_stage_declares_exactly_the_parameters_it_reads(stage: str, recordings: dict[str, Recording]) -> None:
    check_parameters(ROOT, stage, recordings[stage])


@pytest.mark.parametrize("stage", STAGES)
def test_stage_declares_exactly_the_files_it_reads_and_writes(stage: str, recordings: dict[str, Recording]) -> None:
    check_files(ROOT, stage, recordings[stage])


@pytest.mark.parametrize("stage", STAGES)
def test_stage_has_a_description(stage: str) -> None:
    assert STAGES[stage]["desc"]


def test_every_section_of_params_yaml_is_read_by_a_stage() -> None:
    declared = {item.split(".")[0] for spec in STAGES.values() for item in spec.get("params", [])}
    assert declared == set(Params.model_fields)


def test_undeclared_import_is_reported_with_the_lines_to_paste(project: Path) -> None:
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(text.replace("      - src/sources\n", ""))
    with pytest.raises(AssertionError) as failure:
        check_code_dependencies(project, "prepare")
    lines = [
        "dvc.yaml, stage prepare, deps: expected exactly these lines",
        "      - data/sources/mnist",
        "      - requirements.txt",
        *(f"      - {path}" for path in sorted(code_dependencies(ROOT, "prepare") - {"requirements.txt"})),
    ]
    assert "      - src/sources" in lines
    assert "\n".join(lines) in str(failure.value)


@pytest.mark.parametrize("dependency", ["src/audit.py", "requirements-dev.txt"])
def test_needless_dependency_is_reported(project: Path, dependency: str) -> None:
    text = (project / "dvc.yaml").read_text()
    (project / "dvc.yaml").write_text(
        text.replace("      - src/sources\n", f"      - src/sources\n      - {dependency}\n")
    )
    with pytest.raises(AssertionError, match="expected exactly these lines"):
        check_code_dependencies(project, "prepare")


def test_imports_are_found_in_functions_packages_and_relative_form(tmp_path: Path) -> None:
    files = {
        "stages/a.py": "def main():\n    from src.one import inner\n    import src.two\n",
        "src/__init__.py": "",
        "src/one/__init__.py": "from . import other\n",
        "src/one/inner.py": "import json\n",
        "src/one/other.py": "from ..three import name\n",
        "src/two.py": "x = 1\n",
        "src/three.py": "name = 1\n",
        "src/four.py": "never = 'imported'\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = imported_files(tmp_path, tmp_path / "stages/a.py")
    assert {str(path.relative_to(tmp_path)) for path in found} == set(files) - {"src/__init__.py", "src/four.py"}
    assert code_dependencies(tmp_path, "a") == {
        "requirements.txt",
        "stages/a.py",
        "src/one",
        "src/two.py",
        "src/three.py",
    }


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        (Recording(read={"data/secret.csv"}), "- data/secret.csv"),
        (Recording(read=set()), "stage prepare, deps"),
        (Recording(read={"data/sources/mnist"}, written={"data/prepared/extra"}), "- data/prepared/extra"),
    ],
)
def test_undeclared_file_is_reported(recording: Recording, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_files(ROOT, "prepare", recording)


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        (Recording(parameters={"prepare.seed", "plot.dpi"}), "- plot.dpi"),
        (Recording(parameters=set()), "stage prepare, params"),
    ],
)
def test_undeclared_parameter_is_reported(recording: Recording, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_parameters(ROOT, "prepare", recording)
