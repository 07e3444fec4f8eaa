"""The whole pipeline through the real dvc and git, on the tiny data, without network."""

import hashlib
import json
import math
import os
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml

from src.metrics import wilson_interval
from tests.conftest import TEST, new_clone, outputs, run


def restore(folder: Path) -> None:
    run(["git", "checkout", "--quiet", "--force", "main"], folder)
    run(["dvc", "checkout", "--force"], folder)


@pytest.fixture
def project(clone: Path) -> Path:
    restore(clone)
    return clone


def change(folder: Path, section: str, key: str, value: object) -> None:
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params[section][key] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def ran(output: str) -> list[str]:
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def test_the_figures_agree_with_each_other(project: Path) -> None:
    """Accuracy and errors follow from the predictions, each class from its rows, and the history has every epoch."""
    figures = json.loads((project / "metrics/evaluate.json").read_text())
    table = pd.read_csv(project / "metrics/predictions.csv")
    right = table["actual"] == table["predicted"]
    assert len(table) == TEST
    assert figures["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    assert figures["errors"] == (~right).sum()
    assert figures["accuracy_low"] < figures["accuracy"] <= figures["accuracy_high"]
    for label, accuracy in figures["per_class_accuracy"].items():
        assert accuracy == pytest.approx(right[table["actual"] == int(label)].mean(), abs=1e-6)
    history = pd.read_csv(project / "metrics/history.csv")
    trained = json.loads((project / "metrics/train.json").read_text())
    params = yaml.safe_load((project / "params.yaml").read_text())
    assert list(history["epoch"]) == list(range(1, math.ceil(params["train"]["epochs"]) + 1))
    assert trained["validation_accuracy"] == history["validation_accuracy"].iloc[-1]
    assert trained["parameters"] == 593_200


def test_pictures_show_something(project: Path) -> None:
    """Every PNG holds more than paper: at least a hundred different pixels outside the title."""
    from matplotlib.image import imread

    for picture in (project / "metrics").glob("*.png"):
        below_title = imread(picture)[60:, :, :3]
        assert (below_title < 0.9).any(axis=2).sum() > 100, picture.name


def test_every_number_of_the_model_card(project: Path) -> None:
    """In the order of the card, from the metrics and the predictions; the digest is that of the file."""
    card = (project / "data/model/model_card.md").read_text()
    audit, trained, tested = (
        json.loads((project / f"metrics/{name}.json").read_text()) for name in ("inspect", "train", "evaluate")
    )
    params = yaml.safe_load((project / "params.yaml").read_text())["train"]
    digest = hashlib.sha256((project / "data/model/model.safetensors").read_bytes()).hexdigest()
    for text in (digest, trained["machine"]["torch"], trained["machine"]["device"], trained["machine"]["precision"]):
        assert text in card
        card = card.replace(text, "")
    table = pd.read_csv(project / "metrics/predictions.csv", dtype=str)
    wrong = table[table["actual"] != table["predicted"]].groupby(["actual", "predicted"]).size()
    worst = wrong.reset_index(name="images").sort_values("images", ascending=False, kind="stable").head(5)
    expected: list[float] = [10, 28, 28, *range(10), 256, trained["parameters"], params["epochs"]]
    expected += [audit["train"]["images"], params["learning_rate"], params["batch_size"], params["seed"], TEST]
    expected += [tested["accuracy"], 95, tested["accuracy_low"], tested["accuracy_high"], tested["errors"]]
    expected += [tested["loss"], tested["expected_calibration_error"]]
    expected += [audit["validation"]["images"], trained["validation_accuracy"], 95]
    for name, rows in table.groupby("actual"):
        right = int((rows["predicted"] == name).sum())
        expected += [int(name), len(rows), right / len(rows), *wilson_interval(right, len(rows))]
    expected += [int(number) for row in worst.to_numpy() for number in row]
    found = [float(number.replace(",", "")) for number in re.findall(r"\d[\d,]*\d(?:\.\d+)?|\d+(?:\.\d+)?", card)]
    assert found == pytest.approx(expected, abs=5.1e-5)


def test_nothing_runs_twice(project: Path) -> None:
    """A second repro finds nothing to do."""
    assert "up to date" in run(["dvc", "repro"], project).stdout


def test_a_second_clone_gives_the_same_bytes(project: Path, tmp_path: Path) -> None:
    """A clone without cache arrives at the digests of the first, output by output."""
    second = new_clone(tmp_path / "second")
    run(["dvc", "repro"], second)
    assert outputs(second) == outputs(project)
    assert len(outputs(second)) == 18


def test_a_parameter_set_back_is_restored_from_the_run_cache(project: Path) -> None:
    """The changed value runs train and what follows; the old one runs nothing and brings the old bytes."""
    before = outputs(project)
    change(project, "train", "seed", 7)
    assert ran(run(["dvc", "repro"], project).stdout) == ["train", "evaluate", "plot"]
    assert outputs(project)["data/model/model.safetensors"] != before["data/model/model.safetensors"]
    change(project, "train", "seed", 0)
    done = run(["dvc", "repro"], project)
    assert ran(done.stdout) == []
    assert "is cached - skipping run" in done.stdout
    assert outputs(project) == before


def test_a_plot_parameter_runs_plot_alone(project: Path) -> None:
    """Only the stage that reads the parameter runs."""
    change(project, "plot", "dpi", 60)
    assert ran(run(["dvc", "repro"], project).stdout) == ["plot"]


def test_the_notebooks_way_without_a_validation_set(project: Path) -> None:
    """With `prepare.validation: 0` training uses every image, and each epoch is measured on the test set."""
    change(project, "prepare", "validation", 0)
    run(["dvc", "repro"], project)
    report = json.loads((project / "metrics/inspect.json").read_text())
    assert report["train"]["images"] == 330
    trained, tested = (json.loads((project / f"metrics/{name}.json").read_text()) for name in ("train", "evaluate"))
    assert trained["validation_accuracy"] == tested["accuracy"]
    assert "110 test images after training" in (project / "data/model/model_card.md").read_text()


def test_metrics_params_and_plots_between_commits(project: Path) -> None:
    """The four commands that people compare with show what changed."""
    change(project, "train", "learning_rate", 0.001)
    run(["dvc", "repro"], project)
    assert "train.learning_rate" in run(["dvc", "params", "diff"], project).stdout
    changed = json.loads(run(["dvc", "metrics", "diff", "--json"], project).stdout)
    assert {"old", "new", "diff"} <= changed["metrics/evaluate.json"]["loss"].keys()
    for command in (["dvc", "plots", "show"], ["dvc", "plots", "diff", "HEAD", "workspace"]):
        assert "index.html" in run(command, project).stdout
    page = (project / "dvc_plots/index.html").read_text()
    for title in ("Loss", "Accuracy", "Learning rate", "Confusion matrix", "Class balance"):
        assert f'"{title}"' in page
    assert page.count("workspace_metrics_") >= 6


def test_an_experiment_with_a_number_in_yaml_1_2(project: Path) -> None:
    """`-S train.learning_rate=1e-3` trains at 0.001, and `dvc exp show` lists it."""
    run(["dvc", "exp", "run", "--name", "small-rate", "-S", "train.learning_rate=1e-3"], project)
    history = pd.read_csv(project / "metrics/history.csv")
    assert history["learning_rate"].max() < 0.001
    assert "small-rate" in run(["dvc", "exp", "show", "--csv", "--only-changed"], project).stdout


@pytest.mark.parametrize("how", ["--temp", "--queue"])
def test_experiments_elsewhere_use_their_own_copy_of_the_code(project: Path, how: str) -> None:
    """The modules that a temporary or queued experiment imports lie in its own copy of the tree."""
    mark = project / f"imported{how}.txt"
    charts = project / "src/reporting/plots.py"
    charts.write_text(f"{charts.read_text()}\n\nPath({str(mark)!r}).write_text(__file__)\n")
    run(["dvc", "exp", "run", how, "-S", "plot.dpi=50"], project)
    if how == "--queue":
        run(["dvc", "exp", "run", "--run-all"], project)
    imported = Path(mark.read_text())
    assert project / ".dvc/tmp/exps" in imported.parents


def test_an_experiment_elsewhere_finds_the_raw_files(project: Path) -> None:
    """Another split, in a copy of the tree without data/raw, with no network: the project's own files serve."""
    run(["dvc", "exp", "run", "--temp", "--name", "other-split", "-S", "prepare.seed=1"], project)
    assert "other-split" in run(["dvc", "exp", "show", "--csv", "--only-changed"], project).stdout


@pytest.mark.parametrize("path", ["data/model/model.safetensors", "data/prepared/test.safetensors"])
def test_a_flipped_bit_in_the_cache(project: Path, path: str) -> None:
    """A bit that changes on the disk, unseen by DVC, in a file that it then checks out: its reader tells."""
    digest = outputs(project)[path]
    cached = project / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    stat, whole = cached.stat(), cached.read_bytes()
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 1
    cached.chmod(0o644)
    cached.write_bytes(damaged)
    os.utime(cached, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    cached.chmod(stat.st_mode)
    (project / path).unlink()
    try:
        run(["dvc", "checkout", "--force", path], project)
        change(project, "evaluate", "calibration_bins", 7)
        done = run(["dvc", "repro", "evaluate"], project, check=False)
        assert done.returncode
        assert f"error: {Path(path).name} is not" in done.stderr
        assert "content of SHA-256" in done.stderr
    finally:
        cached.chmod(0o644)
        cached.write_bytes(whole)
        (project / path).unlink()  # which DVC takes to be whole
        cached.chmod(stat.st_mode)


def test_the_model_by_its_version(project: Path, tmp_path: Path) -> None:
    """A GTO tag names a version of the model, and `dvc artifacts get` fetches it, with nothing but the remote."""
    run(["dvc", "remote", "add", "--local", "--default", "store", str(tmp_path / "store")], project)
    run(["dvc", "push"], project)
    run(["gto", "register", "mnist-net", "--version", "v1.0.0"], project)
    assert "v1.0.0" in run(["gto", "show"], project).stdout
    run(["dvc", "artifacts", "get", str(project), "mnist-net", "--rev", "v1.0.0", "-o", "got"], tmp_path)
    assert (tmp_path / "got").read_bytes() == (project / "data/model/model.safetensors").read_bytes()
