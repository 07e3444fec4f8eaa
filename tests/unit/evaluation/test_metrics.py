"""Metrics computed by hand."""

import numpy as np
import pytest

from src.evaluation.metrics import (
    accuracy_interval,
    choose_threshold,
    classification_metrics,
    expected_calibration_error,
    per_class_metrics,
    selective_metrics,
    sure_predictions,
    wilson_interval,
)


def test_classification_metrics_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.1, 0.9], [0.3, 0.7]], np.float32)
    metrics = classification_metrics(np.array([0, 0, 1, 1], np.uint8), np.log(probabilities))
    assert (metrics["accuracy"], metrics["errors"]) == (0.75, 1)
    assert metrics["loss"] == pytest.approx(-np.log([0.9, 0.4, 0.9, 0.7]).mean())
    assert (metrics["accuracy_low"], metrics["accuracy_high"]) == wilson_interval(3, 4)
    assert metrics["expected_calibration_error"] == pytest.approx((0.2 + 0.6 + 0.3) / 4)  # |2 - 1.8|, 0.6, |1 - 0.7|


def test_256_classes_fit_into_byte_labels() -> None:
    """Class 255 of 256 is counted as itself."""
    log_probabilities = np.full((1, 256), -10, np.float32)
    log_probabilities[0, 255] = 0
    metrics = classification_metrics(np.array([255], np.uint8), log_probabilities)
    assert (metrics["accuracy"], metrics["loss"], metrics["macro_f1"]) == (1.0, 0.0, 1.0)


def test_balanced_accuracy_and_macro_f1_by_hand() -> None:
    """Class c has no images but one prediction, class d has neither."""
    labels, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 1, 2])
    log_probabilities = np.log(np.eye(4, dtype=np.float32)[predicted] * 0.9 + 0.025)
    metrics = classification_metrics(labels, log_probabilities)
    assert metrics["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert metrics["macro_f1"] == pytest.approx((2 * 2 / 5 + 2 * 1 / 4 + 0) / 3)


def test_metrics_per_class_by_hand() -> None:
    """As scikit-learn: precision without predictions and recall without images are 0."""
    table = per_class_metrics(np.array([0, 0, 0, 1, 1], np.uint8), np.array([0, 0, 1, 1, 2]), 4)
    assert {name: column.tolist() for name, column in table.items()} == {
        "images": [3, 2, 0, 0],
        "precision": [1, 0.5, 0, 0],
        "recall": [2 / 3, 0.5, 0, 0],
        "f1": [0.8, 0.5, 0, 0],
    }


def test_wilson_interval_by_hand() -> None:
    """The closed formula with z = 1.959964."""
    low, high = wilson_interval(np.array([8, 9_940, 0, 5]), np.array([10, 10_000, 10, 5]))
    assert low == pytest.approx([0.4901625, 0.9922851, 0, 0.5655175], abs=2e-6)
    assert high == pytest.approx([0.9433178, 0.9953355, 0.2775328, 1], abs=2e-6)


def test_expected_calibration_error_by_hand() -> None:
    """Two bins of two images each: |1 - 1.02| and |1 - 1.97|. A confidence of 1 is in the last bin."""
    confidence, correct = np.array([0.5, 0.52, 1.0, 0.97]), np.array([True, False, False, True])
    assert expected_calibration_error(confidence, correct) == pytest.approx((0.02 + 0.97) / 4)


def test_threshold_is_the_lowest_above_which_predictions_reach_the_target() -> None:
    confidence, correct = np.array([0.6, 0.9, 0.7, 0.8]), np.array([True, True, False, True])
    assert choose_threshold(confidence, correct, 0.99) == 0.7
    assert choose_threshold(confidence, correct, 0.75) == 0
    assert choose_threshold(confidence, np.zeros(4, bool), 0.5) == 1
    assert choose_threshold(np.array([0.9, 0.9]), np.array([True, False]), 0.99) == 1  # a tie stays together
    metrics = selective_metrics(confidence, correct, 0.6)
    assert (metrics["coverage"], metrics["selective_accuracy"]) == (0.75, pytest.approx(2 / 3))
    assert selective_metrics(confidence, correct, 1.0) == {"threshold": 1.0, "coverage": 0.0}


def test_sure_predictions_are_counted_by_predicted_class() -> None:
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 1, 1])
    found = sure_predictions(labels, predicted, np.array([True, True, True, False]), 3)
    assert {name: column.tolist() for name, column in found.items()} == {"sure": [1, 2, 0], "sure_right": [1, 1, 0]}


def test_interval_of_groups_is_wider_if_their_images_are_alike() -> None:
    """400 images in groups of four that are all right or all wrong say no more than 100 images."""
    correct = np.random.default_rng(0).random(100) < 0.7
    groups = np.arange(100).repeat(4)
    low, high = accuracy_interval(correct.repeat(4), groups)
    alone = accuracy_interval(correct)
    assert (low, high) == pytest.approx(alone, abs=0.02)
    assert high - low > 1.8 * np.diff(accuracy_interval(correct.repeat(4)))[0]
    assert accuracy_interval(np.ones(40, bool), np.arange(40) // 4) == pytest.approx(wilson_interval(10, 10))
