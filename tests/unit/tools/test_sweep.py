"""Grids, the leaderboard and errors of tools.sweep. Its queue is in the integration tests."""

import re
from pathlib import Path

import pandas as pd
import pytest
from dvc.utils.flatten import flatten

from src.params.base import load_yaml
from src.runtime.errors import PipelineError
from src.runtime.files import write_text
from tests.helpers import ROOT, run
from tools import recipes, sweep
from tools.recipes import load_recipe
from tools.sweep import (
    FOLD,
    SEED,
    check_images,
    expand_grid,
    leaderboard,
    learning_curve,
    nearest_recipe,
)


@pytest.fixture(autouse=True)
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_grid_combines_all_values_and_keeps_the_rest_of_the_recipe() -> None:
    options = ["train.learning_rate=0.02,1e-1", "compute.portable=true", "train.seed=range(2)", "train.momentum=0.5"]
    jobs = list(expand_grid(load_recipe("notebook"), options).values())
    assert [(job["train.learning_rate"], job[SEED]) for job in jobs] == [(0.02, 0), (0.02, 1), (0.1, 0), (0.1, 1)]
    assert all((job["compute.portable"], job["train.momentum"]) == (True, 0.5) for job in jobs)
    assert all(job["train.epochs"] == load_recipe("notebook")["train.epochs"] for job in jobs)


def test_recipe_is_a_name_or_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("--set-param=train.epochs=3\n")
    assert load_recipe(str(tmp_path / "mine.txt")) == {"train.epochs": 3}
    assert load_recipe("dash")["train.epochs"] == 0.44
    (tmp_path / "broken.txt").write_text("--set-param=train.epochs=[3\n")
    for name in ("dahs", str(tmp_path / "broken.txt")):
        with pytest.raises(PipelineError, match=f"{name} is not a file of lines .* not one of default, best, "):
            load_recipe(name)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("train.epochz=1,2", "train.epochz: unknown key; did you mean epochs?"),
        ("trian.epochs=1", "invalid --set-param: 'trian'"),
        ("epochs=1", "invalid --set-param: 'epochs'"),
        ("train.epochs", "invalid --set-param: Error parsing override 'train.epochs'"),
        ("train.epochs=[1", "invalid --set-param: no viable alternative at input '[1'"),
        ("train.epochs=glob(*)", "invalid --set-param: Glob override 'train.epochs=glob(*)' is not supported"),
    ],
)
def test_invalid_job_is_one_error_before_anything_is_queued(
    option: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["sweep", "dash", "-S", option])
    monkeypatch.setattr(sweep, "run", lambda jobs: pytest.fail("queued"))
    with pytest.raises(SystemExit, match="1"):
        sweep.main()
    assert re.match(f"error: (.|\n)*{re.escape(message)}(.|\n)*\nhint: .*\n$", capsys.readouterr().err)


def test_leaderboard_ranks_by_validation_accuracy_and_counts_each_seed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = {"train.validation": 5000.0, "train.folds": 0, "train.epochs": 3.0, SEED: 0.0, FOLD: 0}
    rows = [
        ("a", "Success", 5000, 0, 3, 0, 0, 0.99, 0.90),
        ("b", "Success", 5000, 0, 3, 1, 0, 0.97, 0.92),
        ("c", "Success", 5000, 0, 3, 1, 0, 0.97, 0.92),  # the same seed again
        ("d", "Success", 5000, 0, 9, 0, 0, 0.95, 0.99),  # a better test accuracy does not lead
        ("e", "Success", 0, 0, 3, 0, 0, None, 0.999),  # no validation images
        ("g", "Success", 5000, 2, 3, 0, 0, 0.93, 0.9),  # folds count like seeds
        ("h", "Success", 5000, 2, 3, 0, 1, 0.95, 0.9),
    ]
    table = pd.DataFrame(rows, columns=["Experiment", "State", *base, "validation_accuracy", "accuracy"])
    (tmp_path / "long.txt").write_text("--set-param=train.epochs=9\n")
    for module in (recipes, sweep):
        monkeypatch.setattr(module, "RECIPES", {"long": tmp_path / "long.txt"})
    assert [line.split() for line in leaderboard(table, base).splitlines()] == [
        ["validation", "test"],
        ["count", "mean", "std", "count", "mean", "std"],
        ["recipe"],
        ["default", "2", "98.00", "1.41", "2", "91.00", "1.41"],
        ["long", "1", "95.00", "-", "1", "99.00", "-"],
        ["default", "train.folds=2", "2", "94.00", "1.41", "2", "90.00", "0.00"],
        ["default", "train.validation=0", "0", "-", "-", "1", "99.90", "-"],
    ]
    assert leaderboard(table[:0], base) == "no experiment of this commit is done"


def test_learning_curve_names_the_gain_of_the_last_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [(1, 400, 0.9), (0.25, 100, 0.5), (0.5, 200, 0.7), (0.5, 202, 0.8)]
    done = pd.DataFrame(rows, columns=["train.fraction", "train_images", "validation_accuracy"])
    expected = "75.00 % with 201 training images, 90.00 % with 400"
    assert learning_curve(done) == f"validation accuracy: {expected}. Drawn in dvc_plots/learning_curve.png"
    assert Path("dvc_plots/learning_curve.png").exists()


def test_experiment_is_named_after_the_nearest_recipe() -> None:
    base = flatten(load_yaml(Path("params.yaml").read_text()))
    (params,) = expand_grid(load_recipe("dash"), ["train.epochs=3", "train.seed=5"]).values()
    assert nearest_recipe(params, base) == "dash train.epochs=3"
    assert nearest_recipe(base, base) == "default"


def test_sweep_over_an_untracked_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(["git", "init", "--quiet"], tmp_path)
    jobs = {(): {"prepare.dataset": "folder"}}
    with pytest.raises(PipelineError, match=r"not under version control.*\nhint: dvc add data/sources/folder && git"):
        check_images(jobs)
    write_text(tmp_path / "data/sources/folder.dvc", "")
    run(["git", "add", "data"], tmp_path)
    check_images(jobs)
