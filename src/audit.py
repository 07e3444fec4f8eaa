"""What the data are, measured, and whether that is what they should be."""

from collections import Counter
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from PIL import Image

from src.data.dataset import Dataset
from src.params import Inspect, Normalize

MEAN_TOLERANCE = 0.01  # how far the training pixels may lie from `train.normalize`: 3 % of MNIST's deviation


def audit(splits: Mapping[str, Dataset]) -> dict[str, Any]:
    """Figures of each split, and how many images of one split are exact copies of an earlier split's.

    Pixels are fractions from 0 to 1. A blank image has one value everywhere; `duplicates` counts the images that
    repeat an earlier one of the same split. Lists stay out of DVC's tables of metrics, which would grow too wide.
    """
    seen = {name: Counter(image.tobytes() for image in split.images) for name, split in splits.items()}
    report: dict[str, Any] = {"classes": list(next(iter(splits.values())).classes)}
    report |= {name: _figures(split, seen[name]) for name, split in splits.items()}
    report["shared"] = {
        f"{a} and {b}": sum(count for image, count in seen[b].items() if image in seen[a])
        for a, b in combinations(splits, 2)
    }
    return report


def _figures(split: Dataset, seen: Counter[bytes]) -> dict[str, Any]:
    images = split.images
    pixels = np.array(Image.fromarray(images.reshape(len(images), -1)).histogram())
    values, total = np.arange(256) / 255, pixels.sum()
    mean = values @ pixels / total
    return {
        "images": len(images),
        "shape": list(images.shape[1:]),
        "range": [images.min() / 255, images.max() / 255],
        "mean": mean,
        "std": ((values - mean) ** 2 @ pixels / total) ** 0.5,
        "blank": int((np.ptp(images, axis=(1, 2)) == 0).sum()),
        "duplicates": len(images) - len(seen),
        "class_counts": split.counts().tolist(),
    }


def violations(report: Mapping[str, Any], settings: Inspect, normalize: Normalize, same_test_set: bool) -> list[str]:
    """Every expectation that the report of `audit` does not meet, in words.

    `same_test_set`: the validation set is the test set itself (`prepare.validation: 0`), so those two may share images.
    """
    found = []
    splits = {name: figures for name, figures in report.items() if name not in {"classes", "shared"}}
    for name, figures in splits.items():
        missing = [label for label, count in zip(report["classes"], figures["class_counts"], strict=True) if count == 0]
        if missing:
            found.append(f"{name}: no image of class {', '.join(missing)}")
        if figures["blank"] > settings.max_blank:
            found.append(f"{name}: {figures['blank']:,} blank images, expected at most {settings.max_blank}")
    if len({tuple(figures["shape"]) for figures in splits.values()}) > 1:
        found.append("the splits differ in the size of their images")
    for pair, count in report["shared"].items():
        if count > settings.max_shared and not (same_test_set and pair == "validation and test"):
            found.append(f"{pair} share {count:,} exact copies, expected at most {settings.max_shared}")
    for key in ("mean", "std"):
        measured, expected = splits["train"][key], getattr(normalize, key)
        if abs(measured - expected) > MEAN_TOLERANCE:
            found.append(f"train: {key} of the pixels {measured:.4f}, expected {expected} (train.normalize.{key})")
    return found
