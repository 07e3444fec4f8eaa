"""Per-split statistics and sanity checks."""

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from PIL import Image

from src.data.dataset import Dataset
from src.params import Inspect, Normalize

NORMALIZE_TOLERANCE = 0.01  # largest accepted difference from train.normalize; 0.01 is 3 % of MNIST's std


def audit(splits: Mapping[str, Dataset]) -> dict[str, Any]:
    """Measure each split, and count the exact copies of images between splits.

    Returns:
        The class names ("classes"), the statistics of each split under its name, and the number of images that each
        pair of splits shares ("shared"). Pixels are from 0 to 1. A blank image has the same value everywhere.
        "duplicates" is the number of images that repeat an earlier one of the same split. Class counts are lists,
        because DVC would show each value of a mapping as a metric.
    """
    occurrences = {name: Counter(image.tobytes() for image in split.images) for name, split in splits.items()}
    report: dict[str, Any] = {"classes": list(next(iter(splits.values())).classes)}
    report |= {name: _measure(split, len(occurrences[name])) for name, split in splits.items()}
    report["shared"] = {
        f"{a} and {b}": sum(count for image, count in occurrences[b].items() if image in occurrences[a])
        for a, b in combinations(splits, 2)
    }
    return report


def _measure(split: Dataset, distinct_images: int) -> dict[str, Any]:
    """Return the statistics of one split."""
    images = split.images
    histogram = np.array(
        Image.fromarray(images.reshape(len(images), -1)).histogram()
    )  # 0.02 s; np.bincount takes 0.8 s
    values, total = np.arange(256) / 255, histogram.sum()
    mean = values @ histogram / total
    return {
        "images": len(images),
        "shape": list(images.shape[1:]),
        "range": [images.min() / 255, images.max() / 255],
        "mean": mean,
        "std": ((values - mean) ** 2 @ histogram / total) ** 0.5,
        "blank": int((np.ptp(images, axis=(1, 2)) == 0).sum()),
        "duplicates": len(images) - distinct_images,
        "class_counts": split.counts().tolist(),
    }


def check_audit(report: Mapping[str, Any], settings: Inspect, normalize: Normalize, shared_test_set: bool) -> list[str]:
    """Return one sentence for each problem in the report of `audit`.

    Args:
        report: the result of `audit`.
        settings: the accepted numbers of blank and shared images.
        normalize: the expected mean and standard deviation of the training pixels.
        shared_test_set: the test set is also the validation set (`prepare.validation: 0`), so these may share images.
    """
    problems = []
    splits = {name: stats for name, stats in report.items() if name not in {"classes", "shared"}}
    for name, stats in splits.items():
        missing = [label for label, count in zip(report["classes"], stats["class_counts"], strict=True) if count == 0]
        if missing:
            problems.append(f"{name}: no image of class {', '.join(missing)}")
        if stats["blank"] > settings.max_blank:
            problems.append(f"{name}: {stats['blank']:,} blank images, expected at most {settings.max_blank}")
    if len({tuple(stats["shape"]) for stats in splits.values()}) > 1:
        problems.append("the splits have images of different sizes")
    for pair, count in report["shared"].items():
        if count > settings.max_shared and not (shared_test_set and pair == "validation and test"):
            problems.append(f"{pair} share {count:,} exact copies, expected at most {settings.max_shared}")
    for key in ("mean", "std"):
        measured, expected = splits["train"][key], getattr(normalize, key)
        if abs(measured - expected) > NORMALIZE_TOLERANCE:
            problems.append(f"train: {key} of the pixels is {measured:.4f}, but train.normalize.{key} is {expected}")
    return problems
