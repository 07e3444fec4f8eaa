"""Tables of predictions."""

import io

import numpy as np
import torch

from src.data.dataset import Dataset
from src.data.predictions import predictions_table, read_predictions
from tests.helpers import random_dataset


def test_class_names_stay_text() -> None:
    text = "index,actual,predicted,confidence,file\n0,007,NA,0.5,true/1.png\n"
    assert read_predictions(io.StringIO(text)).to_dict("records") == [
        {"index": 0, "actual": "007", "predicted": "NA", "confidence": 0.5, "file": "true/1.png"}
    ]


def test_table_has_the_probability_of_the_given_class() -> None:
    images, labels = random_dataset(10).images, np.arange(10, dtype=np.uint8)[::-1] % 2
    dataset = Dataset(images, labels, ("a", "b"), files=tuple(f"{'ab'[label]}/1.png" for label in labels))[
        np.array([4, 9])
    ]
    table = predictions_table(dataset, torch.tensor([[0.25, 0.75], [0.25, 0.75]]).log())
    assert {name: list(column) for name, column in table.items()} == {
        "index": [4, 9],
        "actual": ["b", "a"],
        "predicted": ["b", "b"],
        "confidence": [0.75, 0.75],
        "probability": [0.75, 0.25],
        "file": ["b/1.png", "a/1.png"],
    }
