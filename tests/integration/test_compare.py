"""tools.compare with real git, real DVC and real exit statuses."""

import re
import sys
from pathlib import Path

import pandas as pd
import yaml

from tests.helpers import ROOT, is_error, run

COMPARE = ["python", "-m", "tools.compare"]


def test_compare_reads_a_commit_an_experiment_and_the_workspace(experiment: Path) -> None:
    gate = run([*COMPARE, "main", "short", "--gate"], experiment, check=False)
    assert gate.returncode == 1
    assert re.search(r"\| train.epochs +\| 5 +\| 1 ", gate.stdout)
    assert "quality gate failed: short has accuracy" in gate.stderr
    assert (experiment / "dvc_plots/flipped.png").exists()
    workspace = run([*COMPARE, "main", "workspace"], experiment).stdout
    assert workspace == gate.stdout.replace("short", "workspace")


def test_command_of_the_workflow_compares_a_pull_request_with_its_target(finished_clone: Path, tmp_path: Path) -> None:
    """It checks out a detached commit, and the target branch exists only as origin/main."""
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    (command,) = [step["run"] for step in workflow["jobs"]["run"]["steps"] if "tools.compare" in step.get("run", "")]
    clone = tmp_path / "a clone"
    run(["git", "clone", "--quiet", str(finished_clone), str(clone)], tmp_path)
    run(["git", "checkout", "--quiet", "--detach"], clone)
    run(["git", "branch", "--quiet", "--delete", "main"], clone)
    predictions = pd.read_csv(clone / "metrics/predictions.csv")
    predictions["predicted"] = predictions["actual"].where(predictions.index >= 100, (predictions["actual"] + 1) % 10)
    predictions.to_csv(clone / "metrics/predictions.csv", index=False)
    (clone / ".venv").symlink_to(Path(sys.executable).parents[1])
    summary = tmp_path / "summary.md"
    done = run(["bash", "-c", command], clone, check=False, TARGET="origin/main", GITHUB_STEP_SUMMARY=str(summary))
    text = summary.read_text()
    assert "### Parameters of origin/main and workspace\n\nno difference" in text
    assert "the difference is significant" in text
    assert is_error(done, "quality gate failed: workspace has accuracy 0.0909")


def test_unknown_name_is_an_error(finished_clone: Path) -> None:
    done = run([*COMPARE, "main", "no-such-run"], finished_clone, check=False)
    assert is_error(done, "`no-such-run` is not a revision, an experiment or `workspace`", "dvc exp list")
