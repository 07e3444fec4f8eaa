"""tools.compare: real git, real dvc, real exit codes."""

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import ROOT, is_block, run
from tools.compare import Run, compare, report, verdict

COMPARE = ["python", "-m", "tools.compare"]


def made(name: str, predicted: str, actual: str = "0011223344") -> Run:
    """A run by the digits that it reads, an image each."""
    table = pd.DataFrame(
        {"index": range(len(actual)), "actual": list(actual), "predicted": list(predicted), "confidence": 0.9}
    )
    return Run(name, {"train.seed": 0, "train.epochs": len(name)}, table)


def test_the_paired_table() -> None:
    """Each image is in one cell, and the flipped are those that one run alone has right."""
    result = compare(made("a", "0011223349"), made("bb", "0091223344"))
    cells = [result[cell] for cell in ("both_right", "only_first", "only_second", "both_wrong")]
    assert cells == [8, 1, 1, 0]
    assert result["parameters"] == {"train.epochs": (1, 2)}
    assert result["flipped"] == [
        {"index": 2, "actual": "1", "first": "1", "second": "9"},
        {"index": 9, "actual": "4", "first": "9", "second": "4"},
    ]
    assert result["p_value"] == 1
    assert [round(run["accuracy"], 2) for run in result["accuracy"]] == [0.9, 0.9]
    assert "neither is better" in report(result)
    assert "     9      4     9      4" in report(result)


@pytest.mark.parametrize(
    ("lost", "won", "said"), [(0, 5, "same"), (0, 6, "better"), (6, 0, "worse"), (3, 12, "better")]
)
def test_the_verdict(lost: int, won: int, said: str) -> None:
    """Five to nothing is chance (p = 0.0625), six to nothing is not (0.031)."""
    a = made("a", "0" * lost + "1" * won, "0" * (lost + won))
    b = made("b", "1" * lost + "0" * won, "0" * (lost + won))
    assert verdict(compare(a, b)) == said


def test_between_a_commit_an_experiment_and_the_workspace(clone: Path) -> None:
    """The three kinds of names, JSON and the gate, by their exit statuses."""
    run(["dvc", "exp", "run", "--name", "one-step", "-S", "train.epochs=0.1"], clone)
    result = json.loads(run([*COMPARE, "main", "one-step", "--json"], clone).stdout)
    assert result["parameters"] == {"train.epochs": [3.4, 0.1]}
    assert sum(result[cell] for cell in ("both_right", "only_first", "only_second", "both_wrong")) == 110
    assert result == {
        **json.loads(run([*COMPARE, "main", "workspace", "--json"], clone).stdout),
        "runs": ["main", "one-step"],
    }
    assert result["p_value"] < 0.05
    assert run([*COMPARE, "main", "one-step", "--gate"], clone, check=False).returncode == 1
    assert run([*COMPARE, "one-step", "main", "--gate"], clone).returncode == 0
    done = run([*COMPARE, "one-step", "main", "--gate", "--floor", "0.9999"], clone, check=False)
    assert done.returncode == 1
    assert is_block(done, "the gate is closed", "at least 0.9999")
    (clone / "dvc_plots/flipped.png").unlink()
    assert "main is better" in run([*COMPARE, "one-step", "main"], clone).stdout
    assert (clone / "dvc_plots/flipped.png").exists()


def test_what_is_not_there(clone: Path) -> None:
    """An unknown name is one block."""
    done = run([*COMPARE, "main", "no-such-run"], clone, check=False)
    assert is_block(done, "`no-such-run` holds no run", "dvc exp list")


def test_the_recipes_in_the_history() -> None:
    """The default recipe against the notebook's, from the predictions that git holds."""
    names = [":/^Run the notebook's recipe", ":/^Run the default recipe"]
    if run(["git", "rev-parse", "--is-shallow-repository"], ROOT).stdout.strip() == "true":
        pytest.skip("a history without those runs")
    result = json.loads(run([*COMPARE, *names, "--json"], ROOT).stdout)
    assert result["only_first"] < result["only_second"]
    assert result["p_value"] < 0.05
    assert "train.optimizer" in result["parameters"]
