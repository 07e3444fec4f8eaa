"""Figures worked out by hand."""

import numpy as np
import pytest

from src.metrics import confusion_matrix, expected_calibration_error, mcnemar, wilson_interval


def test_confusion_matrix_by_hand() -> None:
    """Rows are actual, columns predicted."""
    actual, predicted = np.array([0, 0, 1, 2, 2, 2], np.uint8), np.array([0, 1, 1, 2, 0, 2])
    assert confusion_matrix(actual, predicted, 3).tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]


def test_classes_do_not_overflow_bytes() -> None:
    """Class 255 of 256 is counted at its place, though labels are bytes."""
    matrix = confusion_matrix(np.array([255], np.uint8), np.array([255]), 256)
    assert matrix[255, 255] == matrix.sum() == 1


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    [(8, 10, 0.4901625, 0.9433178), (9_940, 10_000, 0.9922851, 0.9953355), (0, 10, 0, 0.2775328), (5, 5, 0.5655175, 1)],
)
def test_wilson_interval_by_hand(correct: int, count: int, low: float, high: float) -> None:
    """The closed formula, worked out on paper with z = 1.959964."""
    assert wilson_interval(correct, count) == pytest.approx((low, high), abs=2e-6)


@pytest.mark.parametrize(("correct", "count"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_interval_refuses_nonsense(correct: int, count: int) -> None:
    """No interval without a count, or with more correct than counted."""
    with pytest.raises(ValueError, match="correct of"):
        wilson_interval(correct, count)


def test_calibration_error_by_hand() -> None:
    """Two bins: |1 - 0.75| and |0.5 - 0.25| halves; a confidence of 1 belongs to the last bin."""
    confidence, correct = np.array([0.2, 0.3, 1.0, 0.5]), np.array([True, False, True, True])
    assert expected_calibration_error(confidence, correct, 2) == pytest.approx(0.5 * 0.25 + 0.5 * 0.25)


@pytest.mark.parametrize(
    ("first", "second", "p"), [(0, 0, 1), (5, 5, 1), (0, 5, 0.0625), (6, 0, 0.03125), (2, 8, 0.109375), (0, 2000, 0)]
)
def test_mcnemar_by_hand(first: int, second: int, p: float) -> None:
    """Twice the tail of a fair coin: 2 / 2^5, 2 / 2^6, 2 (1 + 10 + 45) / 2^10."""
    assert mcnemar(first, second) == pytest.approx(p, abs=1e-12)
