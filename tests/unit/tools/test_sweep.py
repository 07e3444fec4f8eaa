"""Grids, the leaderboard and errors of tools.sweep. Its queue is in the integration tests."""

import re
from pathlib import Path

import pandas as pd
import pytest
from dvc.utils.flatten import flatten

from src.params import load_yaml
from src.runtime.errors import PipelineError
from tests.helpers import ROOT, run
from tools import sweep
from tools.sweep import RECIPES, SEED, Values, check_images, check_workers, expand_grid, leaderboard

METRICS = ("validation_accuracy", "accuracy", "seconds")


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_grid_combines_all_values_and_keeps_the_rest_of_the_recipe() -> None:
    options = ["train.learning_rate=0.02,1e-1", "train.portable=true", "train.seed=range(2)"]
    jobs = list(expand_grid("notebook", options).values())
    assert [(job["train.learning_rate"], job[SEED]) for job in jobs] == [(0.02, 0), (0.02, 1), (0.1, 0), (0.1, 1)]
    assert all(job["train.portable"] is True for job in jobs)
    assert all(job["train.epochs"] == RECIPES["notebook"]["train.epochs"] for job in jobs)


def test_options_replace_values_of_the_recipe() -> None:
    one, two = expand_grid("notebook", ["train.epochs=1,2"])
    assert [item for item in one if item.startswith("train.epochs=")] == ["train.epochs=1"]
    assert [item for item in two if item.startswith("train.epochs=")] == ["train.epochs=2"]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("train.epochz=1,2", "train.epochz: unknown key; did you mean epochs?"),
        ("train.epochs=[1]", "train.epochs: found [1], expected a valid number"),
        ("trian.epochs=1", "no section 'trian'"),
        ("model.pretrained=true", "`dash` has no pretrained weights"),
        ("train.epochs", "--set-param: Error parsing override 'train.epochs'"),
        ("train.epochs=[1", "--set-param: no viable alternative at input '[1'"),
        ("train.epochs=glob(*)", "--set-param: Glob override 'train.epochs=glob(*)' is not supported"),
        ("train.seed=range(0)", "the grid is empty: train.seed=range(0)"),
        ("train.seed=range(two)", "--set-param: Error parsing override"),
    ],
)
def test_invalid_job_is_one_error_before_anything_is_queued(
    option: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sweep", "dash", "-S", option])
    monkeypatch.setattr(sweep, "run", lambda jobs: pytest.fail("queued"))
    with pytest.raises(SystemExit, match="1"):
        sweep.main()
    error, hint = capsys.readouterr().err.split("\nhint: ")
    assert error.startswith("error: ")
    assert message in error
    assert len(hint.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--seeds", "2"],
        ["dash", "--seeds", "two"],
        ["no-such-recipe"],
    ],
)
def test_wrong_command_line_exits_with_status_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sweep", *arguments])
    with pytest.raises(SystemExit, match="2"):
        sweep.main()
    assert "usage: " in capsys.readouterr().err


def test_leaderboard_ranks_by_validation_accuracy_and_counts_each_seed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    base = {"prepare.validation": 5000.0, "train.epochs": 3.0, SEED: 0.0}
    rows = [
        ("a", "Success", 5000, 3, 0, 0.99, 0.90, 10.0),
        ("b", "Success", 5000, 3, 1, 0.97, 0.92, 20.0),
        ("c", "Success", 5000, 3, 1, 0.97, 0.92, 20.0),  # the same seed again
        ("d", "Success", 5000, 9, 0, 0.95, 0.99, None),  # a better test accuracy does not lead
        ("e", "Success", 0, 3, 0, 0.999, 0.999, None),  # no validation images: its validation accuracy does not count
        ("f", "Failed", 5000, 7, 0, None, None, None),
    ]
    table = pd.DataFrame(rows, columns=["Experiment", "State", *base, *METRICS])
    monkeypatch.setattr(sweep, "RECIPES", {"default": {}, "long": {"train.epochs": 9}})
    header, *rows = (re.split("  +", line.strip()) for line in leaderboard(table, base).splitlines())
    assert header[:4] == ["recipe", "seeds", "validation mean", "validation std"]
    assert header[4:] == ["test mean", "test std", "seconds mean", "seconds std"]
    assert rows == [
        ["default", "2", "98.00", "1.41", "91.00", "1.41", "15.00", "7.07"],
        ["long", "1", "95.00", "-", "99.00", "-", "-", "-"],
        ["default prepare.validation=0", "1", "-", "-", "99.90", "-", "-", "-"],
        ["1 failed: f"],
    ]


def test_leaderboard_without_experiments_says_so() -> None:
    base = flatten(load_yaml(Path("params.yaml").read_text()))
    table = pd.DataFrame(columns=["Experiment", "State", *base, *METRICS])
    assert leaderboard(table, base) == "no experiment of this commit is done"


def test_recipe_with_changes_is_named_after_the_nearest_recipe() -> None:
    base = flatten(load_yaml(Path("params.yaml").read_text()))
    (params,) = expand_grid("dash", ["train.epochs=3", "train.seed=5"]).values()
    assert sweep.nearest_recipe(params, base) == "dash train.epochs=3"
    assert sweep.nearest_recipe(base, base) == "default"


@pytest.mark.parametrize(
    ("base", "experiment", "name"),
    [
        ({"train.normalize": "auto"}, {"train.normalize.mean": "[0.2]"}, "default train.normalize.mean=[0.2]"),
        ({"train.normalize.mean": "[0.2]"}, {"train.normalize": "auto"}, "default train.normalize=auto"),
    ],
)
def test_keys_that_the_base_lacks_are_part_of_the_name(base: Values, experiment: Values, name: str) -> None:
    """exp_show writes None for the keys that an experiment lacks, and lists metrics, too."""
    row = dict.fromkeys(base, "None") | experiment | {SEED: 0, "train.mean": 0.15}
    assert sweep.nearest_recipe(row, base | {SEED: 0}) == name


def test_lists_are_compared_as_text_like_those_of_exp_show() -> None:
    (params,) = expand_grid("dash", ["train.normalize={mean:[0.15],std:[0.3]}"]).values()
    assert (params["train.normalize.mean"], params["train.normalize.std"]) == ("[0.15]", "[0.3]")


def test_sweep_over_an_untracked_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(["git", "init", "--quiet"], tmp_path)
    jobs = {(): {"prepare.dataset": "folder"}}
    with pytest.raises(PipelineError, match=r"not under version control.*\nhint: dvc add data/sources/folder && git"):
        check_images(jobs)
    (tmp_path / "data/sources").mkdir(parents=True)
    (tmp_path / "data/sources/folder.dvc").touch()
    run(["git", "add", "data"], tmp_path)
    check_images(jobs)


def fake_dvc(folder: Path, status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a `dvc` first on PATH that prints `status`."""
    (folder / "dvc").write_text(f"#!/bin/sh\ncat <<'END'\n{status}\nEND\n")
    (folder / "dvc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


STATUS = """Task     Name        Created    Status
2d271c2  pappy-ziti  03:09 PM   {state}
435849a  zingy-tuts  03:09 PM   Queued

Worker status: {workers} active, 0 idle"""


@pytest.mark.parametrize(("state", "workers"), [("Running", 1), ("Running", 10), ("Success", 0)])
def test_working_queue_passes(state: str, workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_dvc(tmp_path, STATUS.format(state=state, workers=workers), monkeypatch)
    check_workers()


def test_running_task_without_a_worker_is_an_error_with_the_repair_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_dvc(tmp_path, STATUS.format(state="Running", workers=0), monkeypatch)
    with pytest.raises(PipelineError, match=r"pappy-ziti as running.*\nhint: dvc queue kill pappy-ziti "):
        check_workers()


def test_training_seconds_come_from_the_last_training_of_an_experiment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sweep.load_training_seconds() == {}
    Path("data").mkdir()
    Path("data/training_times.csv").write_text("experiment,steps,seconds\n,9,1.0\n007,9,2.0\na-b,9,3.0\na-b,9,4.5\n")
    assert sweep.load_training_seconds() == {"007": 2.0, "a-b": 4.5}
