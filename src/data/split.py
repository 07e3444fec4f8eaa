"""Hold out images of every class, by count or by fold."""

import sys
from collections.abc import Sequence

import numpy as np

from src.data.dataset import Dataset
from src.runtime.errors import PipelineError

SEED = 0  # of the choice of validation images


def split_training_images(pool: Dataset, validation: int, folds: int, fold: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the images to train on and of those to validate on: int64 each.

    Args:
        pool: all training images.
        validation: number of validation images. A given validation split has its own number. 0: no validation images.
        folds: 0, or the number of folds. One fold then validates instead.
        fold: the fold to validate on, from 0.

    Raises:
        PipelineError: a class would have no image to train on.
    """
    if folds:
        held_out = assign_folds(pool, folds) == fold
        if not held_out.any():
            raise PipelineError(f"fold {fold} of {folds} has no images", "dvc exp run -S train.folds=5")
        if missing := sorted({*pool.labels.tolist()} - {*pool.labels[~held_out].tolist()}):
            names = ", ".join(pool.classes[label] for label in missing)
            raise PipelineError(
                f"fold {fold} of {folds} has all images of class {names}",
                "dvc exp run -S train.folds=0   # or add images: each class needs two images or groups",
            )
    elif not validation:
        held_out = np.zeros(len(pool), bool)
    elif pool.is_validation is not None:
        held_out = pool.is_validation.astype(bool)
    else:
        held_out = stratified_split(pool.labels, pool.classes, validation, SEED, "train.validation", pool.groups)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


def assign_folds(pool: Dataset, folds: int) -> np.ndarray:
    """Return the fold of each image, from 0: int64 [n]. Classes are spread evenly, and groups stay together."""
    groups = np.arange(len(pool)) if pool.groups is None else np.unique(pool.groups, return_inverse=True)[1]
    first = np.unique(groups, return_index=True)[1]
    order = np.random.default_rng(SEED).permutation(len(first))
    by_class = order[np.argsort(pool.labels[first][order], kind="stable")]  # the class of its first image
    fold_of_group = np.empty(len(first), np.int64)
    fold_of_group[by_class] = np.arange(len(first)) % folds
    return np.asarray(fold_of_group[groups])


def stratified_split(
    labels: np.ndarray,
    classes: Sequence[str],
    count: int,
    seed: int,
    parameter: str,
    groups: np.ndarray | None = None,
) -> np.ndarray:
    """Select `count` random images to hold out, each class in proportion to its size, but at least one of each.

    The counts of the classes are rounded by the largest remainder method, so that they add up to `count`. With groups,
    a fraction of `count` / n of the groups is held out, each as a whole. The class of a group is the class of its first
    image.

    Args:
        labels: the class of each image, integers [n].
        classes: the class names, for the error message.
        count: the number of images to hold out; 0 for none.
        seed: which images to select.
        parameter: the name of the parameter that sets `count`, for the error message.
        groups: the group of each image, integers [n]. None: each image is a group of its own.

    Returns:
        bool [n], true for held-out images.

    Raises:
        PipelineError: a class would be missing in one of the two splits.
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
    random = np.random.default_rng(seed)
    held_out_groups = np.zeros(len(group_labels), bool)
    for label, wanted in enumerate(np.minimum(selected, sizes)):
        held_out_groups[random.choice(np.flatnonzero(group_labels == label), wanted, replace=False)] = True
    held_out: np.ndarray = held_out_groups[groups]
    parts = (labels[held_out], labels[~held_out]) if count else ()
    missing = {classes[label] for part in parts for label in np.setdiff1d(labels, part)}
    if missing:
        value = 0.2 if parameter == "prepare.test" else len(labels) // 10
        raise PipelineError(
            f"{parameter} holds out {count:,} of {len(labels):,} images, which would leave one of the splits without "
            f"images of class {', '.join(sorted(missing))}",
            f"dvc exp run -S {parameter}={value}   # each class needs two images, or two groups (prepare.group)",
        )
    if abs(held_out.sum() - count) > count / 5:  # groups of very different sizes
        print(f"warning: {parameter} holds out {held_out.sum():,} images, expected about {count:,}", file=sys.stderr)
    return held_out
