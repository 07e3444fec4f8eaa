"""The reader of metrics/predictions.csv."""

import io

from src.evaluation.predictions import read_predictions


def test_class_names_stay_text() -> None:
    text = "index,actual,predicted,confidence,file\n0,007,NA,0.5,true/1.png\n"
    assert read_predictions(io.StringIO(text)).to_dict("records") == [
        {"index": 0, "actual": "007", "predicted": "NA", "confidence": 0.5, "file": "true/1.png"}
    ]
