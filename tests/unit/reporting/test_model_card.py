"""The model card, from the numbers of one run."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from huggingface_hub import ModelCard

from src.reporting.model_card import model_card

CLASSES = ["cat", "d|g", "NA"]
METADATA = {
    "network": "dash32",
    "source": "mnist",
    "environment": {"torch": "2.14.1", "device": "cpu AVX512", "precision": "bfloat16", "threads": 2},
    "run": {"model": {"name": "dash32"}, "train": {"epochs": 5, "learning_rate": 0.1}, "augmentation": {}},
}
AUDIT: dict[str, Any] = {"test": {"images": 1_030, "shape": [28, 28]}}
ACCURACY = {"accuracy": 0.9956, "accuracy_low": 0.994099, "accuracy_high": 0.996721}
REPORTS = {
    "inspect": AUDIT,
    "train": {
        "num_params": 141_642,
        "train_images": 55_000,
        "validation_images": 5_000,
        "train_accuracy": 0.99,
        "validation_accuracy": 0.9972,
    },
    "evaluate": {**ACCURACY, "macro_f1": 0.98765, "loss": 0.0148721, "errors": 1234},
}
VALUES: dict[str, Any] = {
    "metadata": METADATA,
    "reports": REPORTS,
    "confusion": pd.DataFrame([[9, 1, 0], [0, 8, 2], [1, 3, 1006]], CLASSES, CLASSES),
    "suspicious": 12,
}


def card(tmp_path: Path, **changes: Any) -> str:
    """Return the card of `VALUES`, some of them replaced."""
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    values = {**VALUES, **changes}
    return model_card(model_path=path, **{"units": values["confusion"].sum(axis=1), **values})


def test_front_matter_is_that_of_the_hugging_face_hub(tmp_path: Path) -> None:
    data = ModelCard(card(tmp_path)).data
    assert (data.library_name, data.pipeline_tag, data.model_name) == ("pytorch", "image-classification", "dash32")
    results = [(result.dataset_type, result.metric_type, result.metric_value) for result in data.eval_results]
    assert results == [("mnist", "accuracy", 0.9956), ("mnist", "macro_f1", 0.9877)]


def test_card_names_task_file_network_training_and_device(tmp_path: Path) -> None:
    expected = f"""
Classifies gray images of 28 x 28 pixels into 3 classes.

- File: `{tmp_path}/model.safetensors`, SHA-256 `{hashlib.sha256(b"weights").hexdigest()}`
- Network: `dash32`, 141,642 parameters
- Trained on 55,000 images. Settings that are not 0: name dash32, epochs 5, learning rate 0.1
- Computed with torch 2.14.1 on cpu AVX512, bfloat16
"""
    assert expected in card(tmp_path)


def test_card_names_pretraining_and_color(tmp_path: Path) -> None:
    run = {"model": {"name": "dash32", "pretrained": True}, "train": {}, "augmentation": {}}
    audit = AUDIT | {"test": {"images": 1_030, "shape": [224, 224, 3]}}
    text = card(tmp_path, metadata=METADATA | {"run": run}, reports=REPORTS | {"inspect": audit})
    assert "Classifies color images of 224 x 224 pixels into 3 classes." in text
    assert "name dash32, pretrained True\n" in text


def test_card_lists_every_number_of_the_evaluation(tmp_path: Path) -> None:
    expected = """
| on 1,030 test images |  |
| --- | --- |
| accuracy | 0.9956, 95 % interval 0.9941 to 0.9967 |
| macro f1 | 0.9877 |
| loss | 0.0149 |
| errors | 1,234 |
| accuracy on 5,000 validation images | 0.9972 |
| test images that are copies of training images | 0 |
"""
    assert expected in card(tmp_path)


def test_card_counts_test_images_that_training_saw(tmp_path: Path) -> None:
    exact, near = {"train and test": 2}, {"train and test": 3}
    audit = AUDIT | {"cross_split_duplicates": exact, "near_cross_split_duplicates": near}
    assert "| test images that are copies or near copies of training images | 5 |" in card(
        tmp_path, reports=REPORTS | {"inspect": audit}
    )


def test_card_lists_classes_with_intervals_the_worst_first(tmp_path: Path) -> None:
    expected = r"""
| class | images | accuracy | 95 % interval |
| --- | --- | --- | --- |
| d\|g | 10 | 0.8000 | 0.4902 to 0.9433 |
| cat | 10 | 0.9000 | 0.5958 to 0.9821 |
| NA | 1,010 | 0.9960 | 0.9899 to 0.9985 |
"""
    assert expected in card(tmp_path)


def test_interval_of_a_class_counts_its_groups(tmp_path: Path) -> None:
    """Ten images in five groups have the interval of five images."""
    text = card(tmp_path, units=pd.Series([10, 5, 1_010], CLASSES))
    assert r"| d\|g | 10 | 0.8000 | 0.3755 to 0.9638 |" in text


def test_card_lists_twenty_of_many_classes(tmp_path: Path) -> None:
    names = [f"c{index}" for index in range(100)]
    confusion = pd.DataFrame(np.diag(range(100)), names, names)  # c0 has no images
    confusion.loc["c50", "c51"] = 50
    lines = card(tmp_path, confusion=confusion).splitlines()
    start = lines.index("| class | images | accuracy | 95 % interval |")
    assert lines[start + 2] == "| c50 | 100 | 0.5000 | 0.4038 to 0.5962 |"
    assert lines[start + 22] == ""


def test_card_says_what_to_look_at_next(tmp_path: Path) -> None:
    assert """
## What to look at next

- Accuracy 0.9900 in training and 0.9972 in validation: no overfitting; a larger network or more epochs may help.
- Would more images help? `python -m tools.sweep default -S train.fraction=0.25,0.5,1` shows it.
- Most frequent confusions: NA → d|g (3), d|g → NA (2), cat → d|g (1). See `metrics/confusion.png`.
- Widest intervals: d|g, cat, NA. More test images of these classes would make the result more certain.
- 12 training images looked more like another class: hard or wrongly labeled. See `python -m tools.labels`.

""" in card(tmp_path)
    train = {**REPORTS["train"], "validation_accuracy": 0.5}
    assert "in validation: overfitting: try more images" in card(tmp_path, reports=REPORTS | {"train": train})
