"""What README.md and the other documents promise exists and runs."""

import json
import os
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from benchmarks.report import summarize
from src.data.dataset import SPLITS, load_split
from tests.helpers import ROOT, edit_params, run, stages_run
from tests.stage_checks import check_code, check_params

README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(path for folder in (".", "docs", "benchmarks") for path in (ROOT / folder).glob("*.md"))
CLASSES = ["bird", "cat & dog", "émeu"]


def block(heading: str) -> str:
    """Return the first block of commands after a heading of the README."""
    return README.split(heading)[1].split("```console\n")[1].split("```")[0]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_named_files_tests_and_make_targets_exist(document: Path) -> None:
    """Links, and words in code marks. Files that a person creates are in code blocks."""
    text, makefile = document.read_text(), (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z./-]+):", makefile, re.MULTILINE)
    assert set(re.findall(r"(?:`|^)make ([a-z./-]+)", text, re.MULTILINE)) <= set(targets)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert not [link for link in links if not (document.parent / link).exists()]
    paths = re.findall(r"`((?:src|metrics|stages|tests|tools|docs|benchmarks)/[\w./]*\w)`", text)
    assert not [path for path in paths if not (ROOT / path).exists()]
    files = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
    tests = re.findall(r"`(test_\w+(?:\.py)?)`", text)
    assert not [name for name in tests if name not in files and f"def {name}(" not in "".join(files.values())]


def test_quick_start_runs_as_written(clone: Path) -> None:
    """In a clone on the tiny data whose first `make repro` has been committed, as in the real history.

    One seed instead of three runs the same code in less time.
    """
    if not (Path(sys.executable).parents[1] / "ready").exists():
        pytest.skip("needs the environment that make creates")
    (clone / ".venv").symlink_to(Path(sys.executable).parents[1])
    for lock in ("requirements.txt", "requirements-dev.txt"):
        os.utime(clone / lock, (0, 0))  # older than the environment, so that make does not create it again
    commands = block("## Quick start").replace("--seeds 3", "--seeds 1")
    output = run(["bash", "-euxc", commands], clone).stdout
    for words in ("metrics/evaluate.json", "one-epoch", "McNemar", "dvc_plots/index.html"):
        assert words in output, words
    assert not run(["git", "status", "--porcelain"], clone).stdout


def write_images(folder: Path, count: int) -> None:
    """Write `count` images per class: shapes of any size, gray or RGB, in every format."""
    random = np.random.default_rng(0)
    for shape, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            width, height = random.integers(40, 90, 2).tolist()
            image = Image.fromarray(random.integers(0, 60, (height, width), np.uint8))
            draw = ImageDraw.Draw(image)
            box = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
            (draw.rectangle, draw.ellipse, draw.line)[shape](box, 220, width=5)
            picture = image.convert("RGB" if number % 2 else "L")
            picture.save(folder / name / f"{number}.{('png', 'jpeg', 'webp', 'bmp', 'tiff')[number % 5]}")


def test_own_images_are_trained_on_as_written(clone: Path, tmp_path: Path) -> None:
    """One validation runs the same code in less time."""
    edit_params(clone, {"train.epochs": 4, "train.evaluations": 1})
    write_images(tmp_path / "images", 100)
    commands = block("With your own images").replace("/path/to/images", shlex.quote(str(tmp_path / "images")))
    output = run(["bash", "-euxc", commands], clone).stdout
    files = {file for split in SPLITS for file in load_split(clone / "data/prepared", split).files}
    assert files == {f"{path.parent.name}/{path.name}" for path in (tmp_path / "images").glob("*/*")}
    assert json.loads((clone / "metrics/evaluate.json").read_text())["accuracy"] > 0.9
    assert list(pd.read_csv(clone / "metrics/per_class.csv")["class"]) == CLASSES
    assert "\n| cat & dog | 15 | " in (clone / "metrics/model_card.md").read_text()
    assert "dvc_plots/index.html" in output
    answers = re.findall(r"images/(.+)/\d+\.\w+: (.+?) [\d.]+%", output)
    assert len(answers) == 300
    assert sum(name == predicted for name, predicted in answers) > 270


def test_network_and_stage_are_added_as_written(clone: Path) -> None:
    page = (ROOT / "docs/extending.md").read_text()
    for file, code in re.findall(r"```python\n# (\S+\.py)\n(.*?)```", page, re.DOTALL):
        (clone / file).write_text(code)
    (entry,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    text = (clone / "dvc.yaml").read_text()
    (clone / "dvc.yaml").write_text(text.replace("\nplots:\n", f"\n{entry}\nplots:\n", 1))
    check_code(clone, "average")
    check_params(clone, "average")
    edit_params(clone, {"model.name": "mine"})
    assert sorted(stages_run(run(["dvc", "repro"], clone).stdout)) == ["average", "evaluate", "plot", "train"]


def test_results_are_those_of_the_benchmark() -> None:
    summary = summarize(pd.DataFrame(json.loads((ROOT / "benchmarks/results.json").read_text())["runs"]))
    rows = dict(re.findall(r"\| `(\w+)` \| (.+) \|", README))
    assert list(rows) == ["fast", "default", "best"]
    for name, shown in rows.items():
        row = summary.loc[name]
        accuracy = f"{row['accuracy'] * 100:.2f} ± {row['accuracy_std'] * 100:.2f}"
        assert shown == f"{accuracy} | {row['runs']:.0f} | {row['seconds']:.0f} s"
