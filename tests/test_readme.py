"""What the README promises is there."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, new_clone, run

TEXT = (ROOT / "README.md").read_text()


def test_its_files_exist() -> None:
    """Every path that it links to or names in a table."""
    named = re.findall(r"\]\(([\w./]+)\)|`((?:src|metrics|stages|data)/[\w.]+\.\w+)`", TEXT)
    paths = {link or code for link, code in named} - {"stages/name.py"}
    assert len(paths) > 10
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_each_guarantee_names_its_test() -> None:
    """The tests and files of tests that docs/guarantees.md names are there, in every row of its tables."""
    text = (ROOT / "docs/guarantees.md").read_text()
    code = {path.name: path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
    rows = [line for line in text.splitlines() if line.startswith("| ") and "promise |" not in line]
    assert len(rows) > 15
    for row in rows:
        proofs = re.findall(r"`(test_\w+(?:\.py)?|make [\w-]+)`", row.rsplit("|", 2)[1])
        assert proofs, row
        for proof in proofs:
            assert proof in code or proof.startswith("make ") or any(f"def {proof}(" in x for x in code.values()), proof


def test_the_ten_minutes(tmp_path: Path) -> None:
    """Each command as it is written, one after the other, by a shell in a clone on the tiny data."""
    if not (Path(sys.executable).parents[1] / "ready").exists():
        pytest.skip("not the environment of make, which would be built anew")
    folder = new_clone(tmp_path / "ten minutes")
    (folder / ".venv").symlink_to(Path(sys.executable).parents[1])
    os.utime(folder / "requirements.txt", (0, 0))  # older than the environment, which is lent
    block = TEXT.split("## Ten minutes")[1].split("```")[1].removeprefix("console")
    commit = "git add --all && git commit --quiet --message first"  # as the real history has a first run
    said = run(["bash", "-euxc", block.replace("make repro", f"make repro && {commit}")], folder).stdout
    for words in ("metrics/evaluate.json", "one-epoch", "McNemar", "dvc_plots/index.html", " ± ", "docs/photo.jpg: "):
        assert words in said, words
    assert not run(["git", "status", "--porcelain"], folder).stdout


def test_its_commands_are_those_of_make() -> None:
    """Every `make` word is a target."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", TEXT)) <= targets


@pytest.mark.parametrize(("column", "message"), [(0, "Run the notebook's recipe"), (1, "Run the default recipe")])
def test_its_figures_are_those_of_the_commits(column: int, message: str) -> None:
    """The table of the result shows what the two runs committed."""
    show = ["git", "log", "-1", "--format=%H", f"--grep=^{message}"]
    commit = subprocess.run(show, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    if not commit:
        pytest.skip("a history without that run")
    content = subprocess.check_output(["git", "show", f"{commit}:metrics/evaluate.json"], cwd=ROOT, text=True)
    figures = json.loads(content)
    for metric in ("accuracy", "accuracy_low", "accuracy_high", "errors", "loss", "expected_calibration_error"):
        row = re.search(rf"metrics/evaluate.json +{metric} +(\S+) +(\S+)", TEXT)
        assert row, metric
        assert float(row.groups()[column]) == pytest.approx(figures[metric], abs=5.1e-6)
