"""Classification metrics, confidence intervals and significance tests."""

import math
from typing import Any

import numpy as np

BINS = 15  # intervals of equal width from 0 to 1, into which confidences are sorted
Z95 = 1.959963984540054  # the normal quantile of a 95 % interval
RESAMPLES, SEED = 5000, 0  # of groups


def classification_metrics(
    labels: np.ndarray, log_probabilities: np.ndarray, groups: np.ndarray | None = None
) -> dict[str, float]:
    """Compute all metrics of the test set. The model card lists each number in the result by its key.

    Args:
        labels: integers [n], class indices.
        log_probabilities: float32 [n, classes].
        groups: integers [n], the group of each image, or None.

    Returns:
        Numbers by name, with `<name>_low` and `<name>_high` for a 95 % interval.
    """
    labels, predicted = labels.astype(np.int64), log_probabilities.argmax(axis=1)
    correct = predicted == labels
    low, high = accuracy_interval(correct, groups)
    images, _, recall, f1 = per_class_metrics(labels, predicted, log_probabilities.shape[1]).values()
    present = images > 0
    # math.exp, because the last bits of np.exp depend on the processor
    confidence = np.array([math.exp(value) for value in log_probabilities.max(axis=1)])
    return {
        "accuracy": float(correct.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "balanced_accuracy": float(recall[present].mean()),
        # as in scikit-learn: the classes that occur in the labels or in the predictions
        "macro_f1": float(f1[present | np.isin(np.arange(len(images)), predicted)].mean()),
        "loss": -float(log_probabilities[np.arange(len(labels)), labels].mean(dtype=np.float64)),
        "errors": int((~correct).sum()),
        "expected_calibration_error": expected_calibration_error(confidence, correct),
    }


def per_class_metrics(labels: np.ndarray, predicted: np.ndarray, num_classes: int) -> dict[str, np.ndarray]:
    """Return number of images, precision, recall and F1 of each class.

    As in scikit-learn, a precision without predictions and a recall without images are 0, not NaN.

    Args:
        labels: integers [n], class indices.
        predicted: integers [n], class indices.
    """
    images, predictions, correct = (
        np.bincount(indices, minlength=num_classes) for indices in (labels, predicted, labels[labels == predicted])
    )
    return {
        "images": images,
        "precision": correct / np.maximum(predictions, 1),
        "recall": correct / np.maximum(images, 1),
        "f1": 2 * correct / np.maximum(images + predictions, 1),
    }


def sure_predictions(
    labels: np.ndarray, predicted: np.ndarray, is_sure: np.ndarray, num_classes: int
) -> dict[str, np.ndarray]:
    """Return how many predictions of each class are sure, and how many of these are right.

    Args:
        labels: integers [n], class indices.
        predicted: integers [n], class indices.
        is_sure: bool [n].
    """
    right = is_sure & (labels == predicted)
    chosen = {"sure": predicted[is_sure], "sure_right": predicted[right]}
    return {name: np.bincount(indices, minlength=num_classes) for name, indices in chosen.items()}


def accuracy_interval(correct: np.ndarray, groups: np.ndarray | None = None) -> tuple[float, float]:
    """Return the 95 % interval of the accuracy: Wilson's, or with groups, whose images are alike, the bootstrap's.

    If all images are right or all are wrong, the bootstrap has no variation: use Wilson's with the number of groups.
    Source: Efron, Bootstrap Methods, 1979, with groups as the sampled units.

    Args:
        correct: bool [n].
        groups: integers [n], or None.
    """
    if groups is None or correct.min() == correct.max():
        count = len(correct) if groups is None else len(np.unique(groups))
        low, high = wilson_interval(correct.mean() * count, count)
        return float(low), float(high)
    numbers = np.unique(groups, return_inverse=True)[1]
    images, right = np.bincount(numbers), np.bincount(numbers, weights=correct)
    random = np.random.default_rng(SEED)
    samples = (random.integers(len(images), size=len(images)) for _ in range(RESAMPLES))
    low, high = np.quantile([right[sample].sum() / images[sample].sum() for sample in samples], [0.025, 0.975])
    return float(low), float(high)


def wilson_interval(correct: Any, count: Any) -> tuple[Any, Any]:
    """Return the 95 % Wilson score interval of a proportion.

    Source: Wilson, Probable Inference, the Law of Succession, and Statistical Inference, 1927.

    Args:
        correct: the number of successes: an int or an array.
        count: the number of trials: an int or an array of the same shape, above 0.

    Returns:
        The lower and upper limits, from 0 to 1, in the shape of the arguments.
    """
    proportion, spread = correct / count, Z95 * Z95 / count
    middle = (proportion + spread / 2) / (1 + spread)
    half = Z95 * np.sqrt(proportion * (1 - proportion) / count + spread / (4 * count)) / (1 + spread)
    return np.maximum(0.0, middle - half), np.minimum(1.0, middle + half)


def expected_calibration_error(confidence: np.ndarray, correct: np.ndarray) -> float:
    """Return the mean absolute difference between confidence and accuracy per bin, weighted by the images in the bin.

    Source: Guo et al., On Calibration of Modern Neural Networks, 2017.

    Args:
        confidence: float [n], from 0 to 1.
        correct: bool [n].
    """
    gaps = np.bincount(confidence_bins(confidence), weights=correct - confidence.astype(np.float64))
    return float(np.abs(gaps).sum() / len(confidence))


def confidence_bins(confidence: np.ndarray) -> np.ndarray:
    """Return the index of the bin of each confidence: int64 [n], from 0 to `BINS` - 1."""
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def choose_threshold(confidence: np.ndarray, correct: np.ndarray, target_accuracy: float) -> float:
    """Return the lowest confidence above which predictions reach the target accuracy, or 1 if they never do.

    Args:
        confidence: float [n], from 0 to 1, of validation images.
        correct: bool [n].
    """
    order = np.argsort(-confidence, kind="stable")
    accuracy = np.cumsum(correct[order]) / np.arange(1, len(order) + 1)
    below = np.append(confidence[order][1:], 0.0)  # the next lower confidence
    reached = np.flatnonzero((accuracy >= target_accuracy) & (below < confidence[order]))
    return float(below[reached[-1]]) if len(reached) else 1.0


def selective_metrics(
    confidence: np.ndarray, correct: np.ndarray, threshold: float, groups: np.ndarray | None = None
) -> dict[str, float]:
    """Return the threshold, the share of images above it, and their accuracy with its 95 % interval.

    Args:
        confidence: float [n], from 0 to 1, of test images.
        correct: bool [n].
        threshold: what `choose_threshold` returns.
        groups: integers [n], the group of each image, or None.
    """
    is_answered = confidence > threshold
    metrics = {"threshold": threshold, "coverage": float(is_answered.mean())}
    if is_answered.any():
        low, high = accuracy_interval(correct[is_answered], None if groups is None else groups[is_answered])
        accuracy = float(correct[is_answered].mean())
        metrics |= {"selective_accuracy": accuracy, "selective_accuracy_low": low, "selective_accuracy_high": high}
    return metrics
