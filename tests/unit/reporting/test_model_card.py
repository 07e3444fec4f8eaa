"""The model card, from the numbers of one run."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard

from src.params import Params
from src.reporting.model_card import model_card

CONFUSION = pd.DataFrame([[9, 1, 0], [0, 8, 2], [1, 3, 1006]], ["cat", "dog", "NA"], ["cat", "dog", "NA"])
AUDIT = {
    "train": {"images": 55_000, "shape": [28, 28]},
    "validation": {"images": 5_000, "shape": [28, 28]},
    "test": {"images": 1_030, "shape": [28, 28]},
}
TRAINING = {
    "parameters": 141_642,
    "validation_accuracy": 0.9972,
    "fingerprint": {"torch": "2.14.1", "device": "cpu AVX512", "precision": "bfloat16", "threads": 2},
}
EVALUATION = {
    "accuracy": 0.9956,
    "accuracy_low": 0.994099,
    "accuracy_high": 0.996721,
    "macro_f1": 0.98765,
    "loss": 0.0148721,
    "errors": 1234,
    "per_class_accuracy": {"cat": 0.9},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"weights")
    return path


def card(params: Params, model: Path, **evaluation: Any) -> list[str]:
    """The lines of the card."""
    return model_card(params, model, AUDIT, TRAINING, {**EVALUATION, **evaluation}, CONFUSION).splitlines()


def test_front_matter_is_that_of_the_hugging_face_hub(params: Params, model: Path) -> None:
    data = ModelCard("\n".join(card(params, model))).data
    assert (data.library_name, data.pipeline_tag, data.model_name) == ("pytorch", "image-classification", "dash32")
    assert [(result.metric_type, result.metric_value) for result in data.eval_results] == [
        ("accuracy", 0.9956),
        ("macro_f1", 0.9877),
    ]
    assert data.eval_results[0].dataset_type == "mnist"


def test_card_names_task_file_network_and_device(params: Params, model: Path) -> None:
    lines = card(params, model)
    assert "Classifies gray images of 28 x 28 pixels into 3 classes: cat, dog, NA." in lines
    assert f"- File: `{model}`, SHA-256 `{hashlib.sha256(b'weights').hexdigest()}`" in lines
    assert "- Network: `dash32`, 141,642 parameters" in lines
    assert "- Computed with torch 2.14.1 on cpu AVX512, bfloat16" in lines
    assert any("epochs on 55,000 images with muon, learning rate" in line for line in lines)


def test_card_lists_every_number_of_the_evaluation(params: Params, model: Path) -> None:
    lines = card(params, model)
    start = lines.index("| on 1,030 test images |  |")
    assert lines[start + 2 : start + 7] == [
        "| accuracy | 0.9956, 95 % interval 0.9941 to 0.9967 |",
        "| macro f1 | 0.9877 |",
        "| loss | 0.0149 |",
        "| errors | 1,234 |",
        "| accuracy on 5,000 validation images after training, in bfloat16 | 0.9972 |",
    ]


def test_card_counts_test_images_that_training_saw(params: Params, model: Path) -> None:
    audit = {**AUDIT, "shared": {"train and test": 2, "validation and test": 5}, "nearly_shared": {"train and test": 3}}
    text = model_card(params, model, audit, TRAINING, EVALUATION, CONFUSION)
    assert "| test images that are exact or near copies of training images | 5 |" in text
    assert "| test images that are exact copies of training images | 0 |" in card(params, model)


def test_card_of_a_pretrained_network_for_color_images(params: Params, model: Path) -> None:
    changed = params.model_copy(update={"model": params.model.model_copy(update={"pretrained": True})})
    audit = {**AUDIT, "test": {"images": 1_030, "shape": [224, 224, 3]}}
    text = model_card(changed, model, audit, TRAINING, EVALUATION, CONFUSION)
    assert "Classifies color images of 224 x 224 pixels into 3 classes: cat, dog, NA." in text
    assert "- Network: `dash32`, 141,642 parameters, pretrained on ImageNet" in text


def test_card_names_test_time_augmentation(params: Params, model: Path) -> None:
    changed = params.model_copy(update={"train": params.train.model_copy(update={"test_time_augmentation": True})})
    text = model_card(changed, model, AUDIT, TRAINING, EVALUATION, CONFUSION)
    assert "- Network: `dash32`, 141,642 parameters, averages over five shifted copies of an image" in text


def test_card_shortens_a_long_list_of_classes(params: Params, model: Path) -> None:
    names = [f"c{index}" for index in range(100)]
    confusion = pd.DataFrame(np.diag(range(100)), names, names)  # c0 has no images
    confusion.loc["c50", "c51"] = 50
    lines = model_card(params, model, AUDIT, TRAINING, EVALUATION, confusion).splitlines()
    first = next(line for line in lines if line.startswith("Classifies"))
    assert first.startswith("Classifies gray images of 28 x 28 pixels into 100 classes: c0, c1,")
    assert first.endswith(", c19 and more.")
    start = lines.index("| class | images | accuracy | 95 % interval |")
    assert lines[start - 2].endswith("The 20 least accurate classes:")
    assert lines[start + 2] == "| c50 | 100 | 0.5000 | 0.4038 to 0.5962 |"
    assert lines[start + 22] == ""


def test_card_lists_every_class_with_its_interval(params: Params, model: Path) -> None:
    lines = card(params, model)
    assert "| cat | 10 | 0.9000 | 0.5958 to 0.9821 |" in lines
    assert "| NA | 1,010 | 0.9960 | 0.9899 to 0.9985 |" in lines


def test_class_name_with_a_pipe_stays_in_its_cell(params: Params, model: Path) -> None:
    confusion = CONFUSION.rename(index={"cat": "a|b"}, columns={"cat": "a|b"})
    text = model_card(params, model, AUDIT, TRAINING, EVALUATION, confusion)
    assert "| a\\|b | dog | 1 |" in text


def test_card_lists_the_most_frequent_confusions_first(params: Params, model: Path) -> None:
    lines = card(params, model)
    start = lines.index("| actual | predicted | images |")
    assert lines[start + 2 : start + 7] == [
        "| NA | dog | 3 |",
        "| dog | NA | 2 |",
        "| cat | dog | 1 |",
        "| NA | cat | 1 |",
        "",
    ]


def test_card_says_test_images_if_there_is_no_validation_set(params: Params, model: Path) -> None:
    without = params.model_copy(update={"prepare": params.prepare.model_copy(update={"validation": 0})})
    assert "| accuracy on 5,000 test images after training, in bfloat16 | 0.9972 |" in card(without, model)
