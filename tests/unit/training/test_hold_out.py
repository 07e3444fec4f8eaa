"""Which images are trained on, and which validate."""

from types import SimpleNamespace

import numpy as np
import pytest

from src.data.dataset import Dataset
from src.params.train import TrainParams
from src.runtime.errors import PipelineError
from src.training.hold_out import assign_folds, split_training_images
from tests.helpers import labels_of

OFF = {"validation": 0, "folds": 0, "fold": 0, "fraction": 1.0}


def held_out_indices(pool: Dataset, params: TrainParams) -> tuple[np.ndarray, np.ndarray]:
    """The indices of the images to train on and to validate on."""
    training, validation = split_training_images(pool, params)
    return training.indices, validation.indices


def settings(params: SimpleNamespace, **changes: float) -> TrainParams:
    """The section `train`, with no images held out but by `changes`."""
    changed: TrainParams = params.train.model_copy(update=OFF | changes)
    return changed


def test_each_image_is_held_out_in_one_fold_and_classes_are_spread_evenly(params: SimpleNamespace) -> None:
    pool = Dataset(np.zeros((101, 2, 2), np.uint8), labels_of(50, 31, 20), ("a", "b", "c"))
    folds = assign_folds(pool, 5)
    for label, sizes in enumerate([{10}, {6, 7}, {4}]):
        assert set(np.bincount(folds[pool.labels == label], minlength=5)) == sizes
    splits = [held_out_indices(pool, settings(params, validation=7, folds=5, fold=fold)) for fold in range(5)]
    assert [len(validation) for _, validation in splits] == [21, 20, 20, 20, 20]
    assert all((folds[validation] == fold).all() for fold, (_, validation) in enumerate(splits))
    assert all(set(training) | set(validation) == set(range(101)) for training, validation in splits)


def test_groups_stay_in_one_fold() -> None:
    groups = np.arange(60) // 3
    pool = Dataset(np.zeros((60, 2, 2), np.uint8), labels_of(30, 30), ("a", "b"), groups=groups)
    folds = assign_folds(pool, 4)
    assert all(len(set(folds[groups == group])) == 1 for group in range(20))
    assert np.bincount(folds).tolist() == [15] * 4


def test_fold_with_all_images_of_a_class_is_refused(params: SimpleNamespace) -> None:
    pool = Dataset(np.zeros((9, 2, 2), np.uint8), labels_of(8, 1), ("a", "b"))
    fold = int(assign_folds(pool, 2)[-1])
    with pytest.raises(PipelineError, match=rf"fold {fold} of 2 has all images of class b"):
        held_out_indices(pool, settings(params, folds=2, fold=fold))


def test_without_validation_images_all_are_trained_on(params: SimpleNamespace) -> None:
    pool = Dataset(np.zeros((9, 2, 2), np.uint8), labels_of(8, 1), ("a", "b"))
    training, validation = held_out_indices(pool, settings(params))
    assert (training.tolist(), validation.tolist()) == (list(range(9)), [])


def test_given_validation_images_replace_folds(params: SimpleNamespace) -> None:
    given = np.arange(9) < 3
    pool = Dataset(np.zeros((9, 2, 2), np.uint8), labels_of(8, 1), ("a", "b"), is_validation=given.astype(np.uint8))
    assert held_out_indices(pool, settings(params, folds=5))[1].tolist() == [0, 1, 2]
    assert held_out_indices(pool, settings(params))[1].tolist() == []
    with pytest.raises(PipelineError, match="a given validation split"):
        held_out_indices(pool, settings(params, folds=5, fold=1))


def test_fraction_leaves_out_training_images_of_every_class_and_keeps_the_validation_images(
    params: SimpleNamespace,
) -> None:
    groups = np.arange(100) // 2
    pool = Dataset(np.zeros((100, 2, 2), np.uint8), labels_of(60, 40), ("a", "b"), groups=groups)
    (all_images, validation), (half, same) = (
        held_out_indices(pool, settings(params, validation=20, fraction=fraction)) for fraction in (1, 0.5)
    )
    assert same.tolist() == validation.tolist()
    assert set(half) < set(all_images)
    assert np.bincount(pool.labels[half]).tolist() == [24, 16]
    assert [int((groups[half] == group).sum()) for group in set(groups[half])] == [2] * 20
