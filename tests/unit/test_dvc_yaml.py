"""dvc.yaml declares exactly what each stage imports, reads and writes."""

from pathlib import Path

import pytest

from src.params.base import load_yaml
from tests.helpers import ROOT, edit_params, run_stage_in, write_tiny_project
from tests.stage_checks import (
    check_code,
    check_params,
    covers,
    data_dependencies,
    expect,
    imported_files,
    load_stages,
    outputs,
)
from tools.recipes import SCHEMAS

STAGES = load_stages(ROOT)
KEPT = ("data/raw", "data/checkpoints", ".dvc/tmp", "params.yaml")  # used by stages, but neither deps nor outs
EVERY = {"prepare", "inspect", "train", "evaluate", "plot"}
RERUNS = {
    "requirements.txt": EVERY,
    "requirements-dev.txt": set(),
    "src/audit.py": {"inspect"},
    "src/augmentation.py": {"train"},
    "src/data/dataset.py": EVERY,
    "src/device.py": {"train", "evaluate"},
    "src/evaluation/metrics.py": {"evaluate", "plot"},
    "src/models/networks/dash.py": {"train", "evaluate"},
    "src/params/compute.py": {"train", "evaluate"},
    "src/params/prepare.py": {"prepare"},
    "src/params/train.py": {"train"},
    "src/preprocessing.py": {"train", "evaluate"},
    "src/reporting/drawing.py": {"inspect", "plot"},
    "src/reporting/plots.py": {"plot"},
    "src/runtime/files.py": EVERY,
    "src/sources/folder.py": {"prepare"},
    "src/training/loop.py": {"train"},
    "stages/evaluate.py": {"evaluate"},
    "tools/compare.py": set(),
}


def test_every_file_in_stages_is_a_stage_with_a_description() -> None:
    assert {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"} == set(STAGES)
    assert all(spec["desc"] for spec in STAGES.values())


def test_every_file_of_src_is_imported_by_a_stage() -> None:
    imported = set().union(*(imported_files(ROOT, f"stages/{stage}.py") for stage in STAGES))
    files = (path for path in (ROOT / "src").rglob("*.py") if path.stat().st_size)
    assert {str(path.relative_to(ROOT)) for path in files} - imported == {"src/training/launch.py"}  # run by torchrun


def test_every_section_of_params_yaml_is_read_by_a_stage() -> None:
    declared = set().union(*(spec.get("params", []) for spec in STAGES.values()))
    assert declared == set(load_yaml((ROOT / "params.yaml").read_text())) == set(SCHEMAS)


@pytest.mark.parametrize("stage", STAGES)
def test_stage_declares_exactly_the_code_it_imports(stage: str) -> None:
    check_code(ROOT, stage)


@pytest.mark.parametrize("stage", STAGES)
def test_stage_declares_exactly_the_parameters_it_reads(stage: str) -> None:
    check_params(ROOT, stage)


@pytest.mark.parametrize(("file", "stages"), RERUNS.items())
def test_edited_file_reruns_only_the_stages_whose_results_it_can_change(file: str, stages: set[str]) -> None:
    assert (ROOT / file).is_file()
    assert {stage for stage in EVERY if covers(STAGES[stage]["deps"], file)} == stages


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The paths of the files that this process opens."""
    paths: set[str] = set()
    builtin = open

    def record(file: object, *arguments: object, **options: object) -> object:
        paths.add(str(file))
        return builtin(file, *arguments, **options)

    monkeypatch.setattr("builtins.open", record)
    monkeypatch.setattr("io.open", record)
    return paths


def test_every_stage_reads_exactly_its_dependencies_and_writes_exactly_its_outputs(
    tmp_path: Path, opened: set[str]
) -> None:
    """Run all stages, in the order of dvc.yaml."""
    write_tiny_project(tmp_path)
    edit_params(tmp_path, {"train.epochs": 0.8})
    for stage, spec in STAGES.items():
        before = files_in(tmp_path)
        opened.clear()
        run_stage_in(tmp_path, stage, check=True)
        read = {path for path in before if {path, str(tmp_path / path)} & opened and not covers(KEPT, path)}
        written = {path for path in files_in(tmp_path) - before if not covers(KEPT, path)}
        expect(stage, "deps (data)", data_dependencies(spec), read)
        expect(stage, "outs, metrics and plots", outputs(spec), written)
