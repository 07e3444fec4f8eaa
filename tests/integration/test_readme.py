"""What README.md and docs/ promise exists and runs."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers import ROOT, edit_params, run

README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_named_files_exist(document: Path) -> None:
    """Links, and paths in code marks. Those that a person creates are in code blocks."""
    text = re.sub(r"```.*?```", "", document.read_text(), flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    code = re.findall(r"`((?:src|metrics|stages|tests|tools|docs|benchmarks)/[\w./]*\w)`", text)
    missing = [link for link in links if not (document.parent / link).exists()]
    missing += [path for path in code if not (ROOT / path).exists()]
    assert not missing
    assert document.name != "README.md" or len(links) + len(code) > 20


def test_every_guarantee_names_existing_tests() -> None:
    text = (ROOT / "docs/guarantees.md").read_text()
    files = list((ROOT / "tests").rglob("test_*.py"))
    names = {path.name for path in files}
    code = "\n".join(path.read_text() for path in files)
    rows = [line for line in text.splitlines() if line.startswith("| ") and "| test |" not in line]
    assert len(rows) > 15
    proofs = [re.findall(r"`(test_\w+(?:\.py)?|make [\w-]+)`", row.rsplit("|", 2)[1]) for row in rows]
    assert all(proofs)
    named = {name for proof in proofs for name in proof if name.startswith("test_")}
    assert not {name for name in named if name not in names and f"def {name}(" not in code}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_make_commands_are_targets(document: Path) -> None:
    """In code marks and code blocks."""
    text, makefile = document.read_text(), (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z./-]+):", makefile, re.MULTILINE))
    commands = set(re.findall(r"(?:`|^)make ([a-z./-]+)", text, re.MULTILINE))
    assert commands <= targets
    assert document.name != "README.md" or {"repro", "test"} <= commands


def test_quick_start_runs_as_written(clone: Path) -> None:
    """In a clone on the tiny data whose first `make repro` has been committed, as in the real history.

    One seed instead of three runs the same code in less time.
    """
    if not (Path(sys.executable).parents[1] / "ready").exists():
        pytest.skip("needs the environment that make creates")
    (clone / ".venv").symlink_to(Path(sys.executable).parents[1])
    for lock in ("requirements.txt", "requirements-dev.txt"):
        os.utime(clone / lock, (0, 0))  # older than the environment, so that make does not create it again
    block = README.split("## Quick start")[1].split("```")[1].removeprefix("console")
    block = block.replace("--seeds 3", "--seeds 1")
    output = run(["bash", "-euxc", block], clone).stdout
    for words in (
        "metrics/evaluate.json",
        "one-epoch",
        "McNemar",
        "dvc_plots/index.html",
        "validation std",
        "docs/photo.jpg: ",
    ):
        assert words in output, words
    assert not run(["git", "status", "--porcelain"], clone).stdout


def test_own_images_are_trained_on_as_written(clone: Path, tmp_path: Path) -> None:
    """300 color images of three classes, with noise. Three epochs and one validation run the same code in less time."""
    edit_params(clone, {"train.epochs": 3, "train.validations": 1})
    random = np.random.default_rng(0)
    for name, color in {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for index in range(100):
            pixels = np.clip(color + random.normal(0, 40, (40, 50, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"images/{name}/{index}.png")
    block = README.split("With your own images")[1].split("```")[1].removeprefix("console")
    block = block.replace("/path/to/images", shlex.quote(str(tmp_path / "images")))
    output = run(["bash", "-euxc", block], clone).stdout
    accuracy = json.loads((clone / "metrics/evaluate.json").read_text())["accuracy"]
    assert accuracy > 0.9
    assert f"{accuracy:.5g}" in output
    assert "dvc_plots/index.html" in output
    assert re.search(r"images/red/0\.png: red (9\d|100)\.\d%", output)


@pytest.mark.parametrize(("column", "message"), [(0, "Run the notebook's recipe"), (1, "Run the default recipe")])
def test_readme_results_match_the_commits(column: int, message: str) -> None:
    """The table of results shows what two runs committed."""
    show = ["git", "log", "-1", "--format=%H", f"--grep=^{message}"]
    commit = subprocess.run(show, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    if not commit:
        pytest.skip("a history without that run")
    content = subprocess.check_output(["git", "show", f"{commit}:metrics/evaluate.json"], cwd=ROOT, text=True)
    metrics = json.loads(content)
    for metric in ("accuracy", "accuracy_low", "accuracy_high", "errors", "loss", "expected_calibration_error"):
        row = re.search(rf"metrics/evaluate.json +{metric} +(\S+) +(\S+)", README)
        assert row, metric
        assert float(row.groups()[column]) == pytest.approx(metrics[metric], abs=5.1e-6)
