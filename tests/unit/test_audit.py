"""The audit finds blank images, missing classes, copies and a normalization that does not fit."""

import numpy as np
import pytest

from src.audit import audit, check_audit
from src.data.dataset import Dataset
from src.params import Params

CLASSES = ("a", "b")


@pytest.fixture
def splits() -> dict[str, Dataset]:
    """A training set with a blank image, and validation and test sets with two of its images, both of class a."""
    images = np.random.default_rng(0).integers(0, 256, (6, 28, 28), np.uint8)
    images[0] = 0
    train = Dataset(images, np.array([0, 1, 0, 1, 0, 1], np.uint8), CLASSES)
    other = Dataset(images[[1, 2]], np.array([0, 0], np.uint8), CLASSES)
    return {"train": train, "validation": other, "test": other}


def test_audit_measures_a_split() -> None:
    images = np.zeros((4, 1, 2), np.uint8)
    images[2:, 0, 1] = 255  # pixels: six of 0, two of 1
    report = audit({"train": Dataset(images, np.array([0, 0, 0, 1], np.uint8), CLASSES)})
    assert report == {
        "classes": ["a", "b"],
        "train": {
            "images": 4,
            "shape": [1, 2],
            "range": [0, 1],
            "mean": 0.25,
            "std": pytest.approx(0.4330127),
            "blank": 2,
            "duplicates": 2,
            "class_counts": [3, 1],
        },
        "shared": {},
    }


def test_audit_counts_copies_between_splits(splits: dict[str, Dataset]) -> None:
    assert audit(splits)["shared"] == {"train and validation": 2, "train and test": 2, "validation and test": 2}


def test_check_audit_lists_every_problem(splits: dict[str, Dataset], params: Params) -> None:
    report = audit(splits)
    mean, std = report["train"]["mean"], report["train"]["std"]
    assert check_audit(report, params.inspect, params.train.normalize, shared_test_set=False) == [
        "train: 1 blank images, expected at most 0",
        "validation: no image of class b",
        "test: no image of class b",
        "train and validation share 2 exact copies, expected at most 0",
        "train and test share 2 exact copies, expected at most 0",
        "validation and test share 2 exact copies, expected at most 0",
        f"train: mean of the pixels is {mean:.4f}, but train.normalize.mean is 0.1307",
        *([f"train: std of the pixels is {std:.4f}, but train.normalize.std is 0.3081"] if std > 0.3181 else []),
    ]


def test_validation_and_test_may_share_images_if_they_are_the_same_set(
    splits: dict[str, Dataset], params: Params
) -> None:
    problems = check_audit(audit(splits), params.inspect, params.train.normalize, shared_test_set=True)
    assert "train and test share 2 exact copies, expected at most 0" in problems
    assert not [problem for problem in problems if problem.startswith("validation and test")]


def test_check_audit_finds_images_of_different_sizes(splits: dict[str, Dataset], params: Params) -> None:
    splits["test"] = Dataset(np.zeros((1, 20, 20), np.uint8), np.zeros(1, np.uint8), CLASSES)
    problems = check_audit(audit(splits), params.inspect, params.train.normalize, shared_test_set=False)
    assert "the splits have images of different sizes" in problems
