"""The ranking of suspicious labels."""

import io
from pathlib import Path

import pandas as pd
import pytest

from src.data.dataset import save_split
from src.data.predictions import read_predictions
from src.runtime.errors import PipelineError
from tests.helpers import random_dataset
from tools.labels import draw, rank
from tools.project import PREPARED

RUN = """index,actual,file,suggested,margin
3,cat,cat/3.png,dog,-1.5
1,007,007/1.png,dog,8
"""
OTHER = """index,actual,file,suggested,margin
3,cat,cat/3.png,owl,-2.5
2,dog,dog/2.png,cat,0.5
"""


def test_lowest_margin_comes_first_and_runs_are_averaged() -> None:
    first, second = (read_predictions(io.StringIO(text)) for text in (RUN, OTHER))
    both = rank(pd.concat([first, second]))
    assert list(both.columns) == ["index", "file", "given", "suggested", "margin"]
    assert both.values.tolist() == [
        [3, "cat/3.png", "cat", "owl", -2],
        [2, "dog/2.png", "dog", "cat", 0.5],
        [1, "007/1.png", "007", "dog", 8],
    ]


def test_test_images_are_ranked_by_the_probability_of_their_label() -> None:
    table = read_predictions(
        io.StringIO("index,actual,predicted,confidence,probability\n7,1,2,0.9,0.1\n4,0,0,0.9,0.9\n")
    )
    assert rank(table).values.tolist() == [[7, "1", "2", 0.1], [4, "0", "0", 0.9]]


def test_images_of_another_data_set_are_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = random_dataset(3)
    save_split(PREPARED, "train", data)
    given = data.classes[data.labels[2]]
    ranked = pd.DataFrame([[2, given, "x", 0.1]], columns=["index", "given", "suggested", "probability"])
    draw(ranked, "train")
    assert Path("dvc_plots/labels.png").exists()
    for other in (ranked.assign(given="other"), ranked.assign(index=3)):
        with pytest.raises(PipelineError, match="the images are not those of data/prepared"):
            draw(other, "train")
