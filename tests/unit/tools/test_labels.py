"""The ranking of suspicious labels."""

import io

import pandas as pd
import pytest

from src.data.predictions import read_predictions
from tools.labels import rank

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
