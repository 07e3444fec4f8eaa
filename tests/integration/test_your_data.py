"""docs/your-data.md, with the real icons of a Debian package."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.helpers import ROOT, commit, new_clone, run

PAGE = (ROOT / "docs/your-data.md").read_text().replace("duplicates=5", "duplicates=8")
RECIPE, SIZES = "benchmarks/recipes/photos.txt", "16 22 32 48 64 128 256"
SHORT = "prepare.image_size=16 train.epochs=0.02 train.evaluations=1"


@pytest.mark.skipif(not shutil.which("apt-get"), reason="the icons come from a Debian package")
def test_your_data_page_runs_as_written(tmp_path: Path) -> None:
    """With the three smallest sizes of each icon, small images and hardly any training."""
    folder = new_clone(tmp_path)
    script = folder / "docs/oxygen-icons.sh"
    assert SIZES in script.read_text()
    script.write_text(script.read_text().replace(SIZES, "16 22 32"))
    with (folder / RECIPE).open("a") as file:
        file.writelines(f"--set-param={pair}\n" for pair in SHORT.split())
    commit(folder, "shorter")
    (folder / "dvc_plots").mkdir(exist_ok=True)
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        output = run(["bash", "-euxo", "pipefail", "-c", block], folder).stdout
        assert "tools.compare" not in block or "Sign-flip test of groups: p-value" in output
    report = json.loads((folder / "metrics/inspect.json").read_text())
    files = pd.read_csv(folder / "metrics/predictions.csv")["file"]
    groups = files.str.replace(r"-\d+\.png$", "", regex=True).nunique()
    assert report["test"]["images"] == len(files) > 2 * groups  # several sizes of each icon
    emotes = list((folder / "data/sources/folder/emotes").iterdir())
    assert len(pd.read_csv(folder / "dvc_plots/predictions.csv")) == len(emotes) > 40
    assert not run(["git", "status", "--porcelain"], folder).stdout
