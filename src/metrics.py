"""Figures that say how good a set of predictions is, and how sure one can be of that."""

import math
from typing import Any

import numpy as np

Z95 = 1.959963984540054  # the normal quantile of a 95 % interval


def wilson_interval(correct: Any, count: Any) -> tuple[Any, Any]:
    """The 95 % Wilson score interval of a proportion, from 0 to 1; of each one where these are int arrays of one shape.

    Raises ValueError where nothing was counted, or fewer than were correct. Source: Wilson, Probable Inference, the Law
    of Succession, and Statistical Inference, 1927.
    """
    if not np.all((correct >= 0) & (correct <= count) & (count > 0)):
        raise ValueError(f"{correct} correct of {count}")
    share, spread = correct / count, Z95 * Z95 / count
    middle = (share + spread / 2) / (1 + spread)
    half = Z95 * np.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)


def confusion_matrix(actual: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Counts, int64 [actual, predicted], of two vectors of class positions."""
    return np.bincount(actual.astype(np.int64) * classes + predicted, minlength=classes**2).reshape(classes, classes)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact two-sided p-value that two models are equally good, from the images that one alone has right.

    If they were, each of these images were a fair coin. Source: McNemar, Note on the Sampling Error of the Difference
    between Correlated Proportions, 1947.
    """
    count = only_first + only_second
    tail = sum(math.comb(count, heads) for heads in range(min(only_first, only_second) + 1))
    return float(min(1, 2 * tail / 2**count))


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int) -> float:
    """Mean distance, from 0 to 1, of confidence and accuracy over `bins` equal intervals, weighted by their images.

    `confidence` float [n] from 0 to 1, `correct` bool [n]. Source: Guo et al., On Calibration of Modern Neural
    Networks, 2017.
    """
    which = confidence_bins(confidence, bins)
    gap = np.bincount(which, weights=correct - confidence.astype(np.float64), minlength=bins)
    return float(np.abs(gap).sum() / len(confidence))


def confidence_bins(confidence: np.ndarray, bins: int) -> np.ndarray:
    """Into which of `bins` equal intervals of [0, 1] each confidence falls: int64 [n]."""
    return np.minimum((confidence * bins).astype(np.int64), bins - 1)
