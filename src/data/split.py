"""Hold out images of every class, by count or by fold."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from src.data.dataset import Dataset
from src.runtime.errors import PipelineError

if TYPE_CHECKING:
    from src.params.train import TrainParams  # `prepare` does not depend on it

SEED = 0  # of all random choices


def split_training_images(pool: Dataset, settings: "TrainParams") -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the images to train on and of those to validate on: int64 each.

    Args:
        pool: all training images. A given validation split replaces `train.validation` and `train.folds`.

    Raises:
        PipelineError: a class would have no image to train on, or a given validation split has no such fold.
    """
    if pool.is_validation is not None and (settings.folds or settings.validation):
        if settings.fold:
            raise PipelineError("a given validation split has no folds", "dvc exp run -S train.fold=0")
        held_out = pool.is_validation.astype(bool)
    elif settings.folds:
        held_out = assign_folds(pool, settings.folds) == settings.fold
        check_fold(pool, held_out, settings)
    elif not settings.validation:
        held_out = np.zeros(len(pool), bool)
    else:
        held_out = stratified_split(pool.labels, settings.validation, pool.groups)
        check_split(held_out, pool.labels, pool.classes, settings.validation, "train.validation")
    training = np.flatnonzero(~held_out)
    if settings.fraction < 1:
        groups = None if pool.groups is None else pool.groups[training]
        kept = stratified_split(pool.labels[training], max(1, round(settings.fraction * len(training))), groups)
        training = training[kept]
    return training, np.flatnonzero(held_out)


def assign_folds(pool: Dataset, folds: int) -> np.ndarray:
    """Return the fold of each image, from 0: int64 [n]. Classes are spread evenly, and groups stay together."""
    groups = np.arange(len(pool)) if pool.groups is None else np.unique(pool.groups, return_inverse=True)[1]
    first = np.unique(groups, return_index=True)[1]
    order = np.random.default_rng(SEED).permutation(len(first))
    by_class = order[np.argsort(pool.labels[first][order], kind="stable")]  # the class of its first image
    fold_of_group = np.empty(len(first), np.int64)
    fold_of_group[by_class] = np.arange(len(first)) % folds
    return np.asarray(fold_of_group[groups])


def check_fold(pool: Dataset, held_out: np.ndarray, settings: "TrainParams") -> None:
    """Raise PipelineError if the fold, bool [n], is empty or has all images of a class."""
    fold = f"fold {settings.fold} of {settings.folds}"
    if not held_out.any():
        raise PipelineError(f"{fold} has no images", "dvc exp run -S train.folds=5")
    if missing := np.setdiff1d(pool.labels, pool.labels[~held_out]).tolist():
        raise PipelineError(
            f"{fold} has all images of class {', '.join(pool.classes[label] for label in missing)}",
            "dvc exp run -S train.folds=0   # or add images: each class needs two images or groups",
        )


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
