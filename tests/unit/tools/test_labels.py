"""The ranking of suspicious labels."""

import io
from pathlib import Path

import pandas as pd
import pytest

from src.data.dataset import save_dataset
from src.data.predictions import read_predictions
from src.runtime.errors import PipelineError
from tests.helpers import random_dataset
from tools.labels import PREPARED, draw, rank

RUN = """index,actual,predicted,confidence,probability,file
3,cat,dog,0.9,0.1,cat/3.png
1,007,007,0.8,0.8,007/1.png
"""
OTHER = """index,actual,predicted,confidence,probability,file
3,cat,owl,0.97,0.01,cat/3.png
2,dog,cat,0.5,0.45,dog/2.png
"""


def test_least_probable_label_comes_first_and_runs_are_averaged() -> None:
    first, second = (read_predictions(io.StringIO(text)) for text in (RUN, OTHER))
    both = rank(pd.concat([first, second]))
    assert list(both.columns) == ["index", "file", "given", "suggested", "probability"]
    assert both.values.tolist() == [
        [3, "cat/3.png", "cat", "owl", pytest.approx(0.055)],
        [2, "dog/2.png", "dog", "cat", 0.45],
        [1, "007/1.png", "007", "007", 0.8],
    ]


def test_images_without_files_are_ranked_by_index() -> None:
    table = read_predictions(
        io.StringIO("index,actual,predicted,confidence,probability\n7,1,2,0.9,0.1\n4,0,0,0.9,0.9\n")
    )
    assert rank(table).values.tolist() == [[7, "1", "2", 0.1], [4, "0", "0", 0.9]]


def test_images_of_another_data_set_are_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = random_dataset(3)
    save_dataset(PREPARED / "train.safetensors", data)
    given = data.classes[data.labels[2]]
    ranked = pd.DataFrame([[2, given, "x", 0.1]], columns=["index", "given", "suggested", "probability"])
    draw(ranked, "train")
    assert Path("dvc_plots/labels.png").exists()
    for other in (ranked.assign(given="other"), ranked.assign(index=3)):
        with pytest.raises(PipelineError, match="the images are not those of data/prepared"):
            draw(other, "train")
