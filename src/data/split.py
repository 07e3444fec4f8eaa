"""Hold out images of every class."""

import sys
from collections.abc import Sequence

import numpy as np

from src.runtime.errors import PipelineError

SEED = 0  # of all random choices


def stratified_split(labels: np.ndarray, count: int, groups: np.ndarray | None = None) -> np.ndarray:
    """Select `count` random images to hold out, each class in proportion to its size, but at least one of each.

    The counts of the classes are rounded by the largest remainder method, so that they add up to `count`. With groups,
    a fraction of `count` / n of the groups is held out, each as a whole. The class of a group is the class of its first
    image.

    Args:
        labels: the class of each image, integers [n].
        count: the number of images to hold out; 0 for none.
        groups: the group of each image, integers [n]. None: each image is a group of its own.

    Returns:
        bool [n], true for held-out images.
    """
    groups = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    group_labels = labels[np.unique(groups, return_index=True)[1]]  # the class of each group
    number = round(count * len(group_labels) / len(labels))  # of groups to hold out
    sizes = np.bincount(group_labels)
    exact = sizes * number / len(group_labels)
    selected = np.floor(exact).astype(int)
    by_remainder = np.argsort(selected - exact, kind="stable")  # ties go to the lower class
    selected[by_remainder[: number - selected.sum()]] += 1
    if 0 < count < len(labels):
        selected = selected.clip(1, np.maximum(sizes - 1, 1))
    random = np.random.default_rng(SEED)
    held_out = np.zeros(len(group_labels), bool)
    for label, wanted in enumerate(np.minimum(selected, sizes)):
        held_out[random.choice(np.flatnonzero(group_labels == label), wanted, replace=False)] = True
    return np.asarray(held_out[groups])


def check_split(held_out: np.ndarray, labels: np.ndarray, classes: Sequence[str], count: int, parameter: str) -> None:
    """Check the result of `stratified_split`, and warn if groups of different sizes move it far from `count`.

    Args:
        held_out: bool [n].
        labels: the class of each image, integers [n].
        parameter: the name of the parameter that sets `count`.

    Raises:
        PipelineError: a class would be missing in one of the two splits.
    """
    missing = {classes[label] for part in (held_out, ~held_out) for label in np.setdiff1d(labels, labels[part])}
    if missing:
        value = 0.2 if parameter == "prepare.test" else len(labels) // 10
        raise PipelineError(
            f"{parameter} holds out {count:,} of {len(labels):,} images, which would leave one of the splits without "
            f"images of class {', '.join(sorted(missing))}",
            f"dvc exp run -S {parameter}={value}   # each class needs two images, or two groups (prepare.group)",
        )
    if abs(held_out.sum() - count) > count / 5:
        print(f"warning: {parameter} holds out {held_out.sum():,} images, expected about {count:,}", file=sys.stderr)
