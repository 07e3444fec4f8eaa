"""The pipeline from end to end, with the real `dvc` and `git`, on the tiny data."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from matplotlib.image import imread

from src.metrics import wilson_interval
from tests.helpers import TEST, edit_params, new_clone, run, stages_run
from tests.stage_checks import load_stages, outputs
from tools.verify import recorded_outputs


def read_json(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text())
    return values


def test_every_declared_output_is_recorded(finished_clone: Path) -> None:
    declared = set().union(*(outputs(spec) for spec in load_stages(finished_clone).values()))
    assert set(recorded_outputs(finished_clone)) == declared
    assert all((finished_clone / path).stat().st_size for path in declared)


def test_finished_run_leaves_no_other_files(finished_clone: Path) -> None:
    """No checkpoint, no partial file, and nothing new for git."""
    assert not any((finished_clone / "data/checkpoints").iterdir())
    assert not list(finished_clone.rglob("*.part"))
    assert not run(["git", "status", "--porcelain"], finished_clone).stdout


def test_second_repro_has_nothing_to_do(finished_clone: Path) -> None:
    done = run(["dvc", "repro"], finished_clone)
    assert "Data and pipelines are up to date." in done.stdout
    assert stages_run(done.stdout) == []


def test_metrics_agree_with_predictions_and_history(finished_clone: Path) -> None:
    metrics = read_json(finished_clone / "metrics/evaluate.json")
    table = pd.read_csv(finished_clone / "metrics/predictions.csv")
    correct = table["actual"] == table["predicted"]
    assert len(table) == TEST
    assert metrics["accuracy"] == pytest.approx(correct.mean(), abs=1e-6)
    assert metrics["errors"] == (~correct).sum()
    assert metrics["accuracy_low"] < metrics["accuracy"] <= metrics["accuracy_high"]
    for _, row in pd.read_csv(finished_clone / "metrics/per_class.csv").iterrows():
        assert row["recall"] == pytest.approx(correct[table["actual"] == row["class"]].mean(), abs=1e-6)
    history = pd.read_csv(finished_clone / "metrics/history.csv")
    training = read_json(finished_clone / "metrics/train.json")
    params = yaml.safe_load((finished_clone / "params.yaml").read_text())
    assert len(history) == params["train"]["validations"]
    assert history["epoch"].is_monotonic_increasing
    assert history["epoch"].iloc[-1] == pytest.approx(params["train"]["epochs"], abs=0.2)  # whole steps
    assert training["validation_accuracy"] == history["validation_accuracy"].iloc[-1]
    assert training["parameters"] == 141_642


def test_dvc_shows_no_nested_metrics(finished_clone: Path) -> None:
    header, *rows = run(["dvc", "metrics", "show"], finished_clone).stdout.splitlines()
    assert "accuracy" in header
    assert "." not in header  # as in per_class_accuracy.7
    assert len(rows) == 2


def test_every_number_of_the_model_card_follows_from_metrics_and_predictions(finished_clone: Path) -> None:
    """Compare all numbers of the card in their order."""
    _, front_matter, card = (finished_clone / "metrics/model_card.md").read_text().split("---\n", 2)
    audit, training, evaluation = (
        read_json(finished_clone / f"metrics/{stage}.json") for stage in ("inspect", "train", "evaluate")
    )
    (index,) = yaml.safe_load(front_matter)["model-index"]
    assert {item["type"]: item["value"] for item in index["results"][0]["metrics"]} == {
        name: pytest.approx(evaluation[name], abs=5.1e-5) for name in ("accuracy", "macro_f1")
    }
    train = yaml.safe_load((finished_clone / "params.yaml").read_text())["train"]
    digest = hashlib.sha256((finished_clone / "data/model/model.safetensors").read_bytes()).hexdigest()
    fingerprint = dict(training["fingerprint"])
    computed = (fingerprint["torch"], fingerprint["device"], fingerprint["precision"])
    for text in (f"SHA-256 `{digest}`", "`dash32`", *computed):
        assert text in card
        card = card.replace(text, "")
    table = pd.read_csv(finished_clone / "metrics/predictions.csv", dtype=str)
    expected: list[float] = [28, 28, 10, *range(10), training["parameters"], train["epochs"], audit["train"]["images"]]
    expected += [train["learning_rate"], train["batch_size"], train["seed"], TEST]
    expected += [evaluation["accuracy"], 95, evaluation["accuracy_low"], evaluation["accuracy_high"]]
    numbers = {name: value for name, value in evaluation.items() if isinstance(value, int | float)}
    expected += [value for name, value in numbers.items() if not name.startswith("accuracy")]
    for name in numbers:
        card = card.replace(f"| {name.replace('_', ' ')} |", "|")  # a name may contain digits
    expected += [audit["validation"]["images"], training["validation_accuracy"], audit["shared"]["train and test"]]
    expected += [1, 95]  # of "F1" and "95 % interval"
    for name, rows in table.groupby("actual"):
        correct = int((rows["predicted"] == name).sum())
        expected += [int(name), len(rows), correct / len(rows), *wilson_interval(correct, len(rows))]
    wrong = table[table["actual"] != table["predicted"]].groupby(["actual", "predicted"]).size()
    worst = wrong.reset_index(name="images").sort_values("images", ascending=False, kind="stable").head(5)
    expected += [int(number) for row in worst.to_numpy() for number in row]
    found = [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d(?:\.\d+)?|\d+(?:\.\d+)?", card)]
    assert found == pytest.approx(expected, abs=5.1e-5)


def test_no_picture_is_blank(finished_clone: Path) -> None:
    """At least a hundred pixels below the title are not white."""
    pictures = list((finished_clone / "metrics").glob("*.png"))
    assert pictures
    for picture in pictures:
        below_title = imread(picture)[60:, :, :3]
        assert (below_title < 0.9).any(axis=2).sum() > 100, picture.name


def test_second_clone_produces_the_same_bytes(finished_clone: Path, tmp_path: Path) -> None:
    second = new_clone(tmp_path / "second")
    run(["dvc", "repro"], second)
    assert recorded_outputs(second) == recorded_outputs(finished_clone)


def test_plot_parameter_reruns_only_plot(finished_clone: Path, tmp_path: Path) -> None:
    clone = shutil.copytree(finished_clone, tmp_path / "clone", symlinks=True)
    edit_params(clone, {"plot.dpi": 60})
    assert stages_run(run(["dvc", "repro"], clone).stdout) == ["plot"]


def test_learning_rate_1e_3_is_read_as_a_number(experiment: Path) -> None:
    assert pd.read_csv(experiment / "metrics/history.csv")["learning_rate"].max() <= 0.001
    assert "short" in run(["dvc", "exp", "show", "--csv", "--only-changed"], experiment).stdout


def test_metrics_and_params_diff_show_the_change(experiment: Path) -> None:
    assert "train.learning_rate" in run(["dvc", "params", "diff"], experiment).stdout
    changed = json.loads(run(["dvc", "metrics", "diff", "--json"], experiment).stdout)
    assert {"old", "new", "diff"} <= changed["metrics/evaluate.json"]["loss"].keys()


def test_plots_show_and_diff_have_every_chart(experiment: Path) -> None:
    for command in (["dvc", "plots", "show"], ["dvc", "plots", "diff", "HEAD", "workspace"]):
        assert "index.html" in run(command, experiment).stdout
    page = (experiment / "dvc_plots/index.html").read_text()
    for title in ("Loss", "Accuracy", "Learning rate", "Confusion matrix", "Class balance"):
        assert f'"{title}"' in page
    plots = set().union(*(outputs({"plots": spec.get("plots", [])}) for spec in load_stages(experiment).values()))
    pictures = {path for path in plots if path.endswith(".png")}
    assert pictures
    for path in pictures:
        assert f"workspace_{path.replace('/', '_')}" in page


def test_changing_a_parameter_back_restores_results_from_the_run_cache(finished_clone: Path, experiment: Path) -> None:
    before = recorded_outputs(finished_clone)
    assert recorded_outputs(experiment)["data/model/model.safetensors"] != before["data/model/model.safetensors"]
    shutil.copy(finished_clone / "params.yaml", experiment)
    done = run(["dvc", "repro"], experiment)
    assert stages_run(done.stdout) == ["plot"]  # the model card is in git, and DVC's run cache is for its own outputs
    assert done.stdout.count("is cached - skipping run") >= 2
    assert recorded_outputs(experiment) == before
    assert not run(["git", "status", "--porcelain", "dvc.lock", "metrics"], experiment).stdout
