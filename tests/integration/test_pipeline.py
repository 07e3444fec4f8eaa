"""The pipeline from end to end, with one run of the real `dvc` on the tiny data."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from matplotlib.image import imread

from tests.helpers import TEST, run
from tests.stage_checks import load_stages, outputs


def test_run_changes_nothing_in_git_but_dvc_lock_and_the_metrics(finished_clone: Path) -> None:
    """It leaves no checkpoint and no partial file."""
    declared = set().union(*(outputs(spec) for spec in load_stages(finished_clone).values()))
    changed = run(["git", "diff", "--name-only", "HEAD~1"], finished_clone).stdout.splitlines()
    assert set(changed) == {"dvc.lock", *(path for path in declared if path.startswith("metrics/"))}
    assert not any((finished_clone / "data/checkpoints").iterdir())
    assert not list(finished_clone.rglob("*.part"))


def test_metrics_agree_with_predictions_and_history(finished_clone: Path) -> None:
    metrics, training = (
        json.loads((finished_clone / f"metrics/{stage}.json").read_text()) for stage in ("evaluate", "train")
    )
    table = pd.read_csv(finished_clone / "metrics/predictions.csv")
    correct = table["actual"] == table["predicted"]
    assert len(table) == TEST
    assert metrics["accuracy"] == pytest.approx(correct.mean(), abs=1e-6)
    assert metrics["errors"] == (~correct).sum()
    assert metrics["accuracy_low"] < metrics["accuracy"] <= metrics["accuracy_high"]
    recall = pd.read_csv(finished_clone / "metrics/per_class.csv").set_index("class")["recall"]
    assert recall.to_dict() == pytest.approx(correct.groupby(table["actual"]).mean().to_dict(), abs=1e-6)
    history = pd.read_csv(finished_clone / "metrics/history.csv")
    params = yaml.safe_load((finished_clone / "params.yaml").read_text())
    assert len(history) == params["train"]["evaluations"]
    assert history["epoch"].is_monotonic_increasing
    assert history["epoch"].iloc[-1] == params["train"]["epochs"]
    assert training["validation_accuracy"] == history["validation_accuracy"].iloc[-1]
    assert training["num_params"] == 141_642
    assert not any(isinstance(value, dict) for value in (metrics | training).values())  # DVC would show each item


def test_no_picture_is_blank(finished_clone: Path) -> None:
    """At least a hundred pixels below the title are not white. This model makes no mistakes."""
    pictures = set((finished_clone / "metrics").glob("*.png")) - {finished_clone / "metrics/mistakes.png"}
    assert pictures
    for picture in pictures:
        below_title = imread(picture)[60:, :, :3]
        assert (below_title < 0.9).any(axis=2).sum() > 100, picture.name
