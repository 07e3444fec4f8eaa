"""Choose the images to train on and to validate on, by count, by fold or as given."""

import numpy as np

from src.data.dataset import Dataset
from src.data.split import SEED, check_split, stratified_split
from src.params.train import TrainParams
from src.runtime.errors import PipelineError


def split_training_images(pool: Dataset, settings: TrainParams) -> tuple[Dataset, Dataset]:
    """Return the images to train on, and those to validate on.

    Args:
        pool: all training images. A given validation split replaces `train.validation` and `train.folds`, if one of
            them is set.

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
    else:
        held_out = stratified_split(pool.labels, settings.validation, pool.groups)
        if settings.validation:
            check_split(held_out, pool.labels, pool.classes, settings.validation, "train.validation")
    training = np.flatnonzero(~held_out)
    if settings.fraction < 1:
        groups = None if pool.groups is None else pool.groups[training]
        kept = stratified_split(pool.labels[training], max(1, round(settings.fraction * len(training))), groups)
        training = training[kept]
    return pool[training], pool[np.flatnonzero(held_out)]


def assign_folds(pool: Dataset, folds: int) -> np.ndarray:
    """Return the fold of each image, from 0: int64 [n]. Classes are spread evenly, and groups stay together."""
    groups = np.arange(len(pool)) if pool.groups is None else np.unique(pool.groups, return_inverse=True)[1]
    first = np.unique(groups, return_index=True)[1]
    order = np.random.default_rng(SEED).permutation(len(first))
    by_class = order[np.argsort(pool.labels[first][order], kind="stable")]  # the class of its first image
    fold_of_group = np.empty(len(first), np.int64)
    fold_of_group[by_class] = np.arange(len(first)) % folds
    return np.asarray(fold_of_group[groups])


def check_fold(pool: Dataset, held_out: np.ndarray, settings: TrainParams) -> None:
    """Raise PipelineError if the fold, bool [n], is empty or has all images of a class."""
    fold = f"fold {settings.fold} of {settings.folds}"
    if not held_out.any():
        raise PipelineError(f"{fold} has no images", "dvc exp run -S train.folds=5")
    if missing := np.setdiff1d(pool.labels, pool.labels[~held_out]).tolist():
        raise PipelineError(
            f"{fold} has all images of class {', '.join(pool.classes[label] for label in missing)}",
            "dvc exp run -S train.folds=0   # or add images: each class needs two images or groups",
        )
