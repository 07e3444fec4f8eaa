"""Which images are held out."""

from types import SimpleNamespace

import numpy as np
import pytest

from src.data.dataset import Dataset
from src.data.split import assign_folds, check_split, split_training_images, stratified_split
from src.params.train import TrainParams
from src.runtime.errors import PipelineError

CLASSES = ("a", "b", "c")
OFF = {"validation": 0, "folds": 0, "fold": 0, "fraction": 1.0}


def settings(params: SimpleNamespace, **changes: float) -> TrainParams:
    """The section `train`, with no images held out but by `changes`."""
    changed: TrainParams = params.train.model_copy(update=OFF | changes)
    return changed


def labels(*sizes: int) -> np.ndarray:
    """Labels in the order of classes."""
    return np.repeat(np.arange(len(sizes), dtype=np.uint8), sizes)


def test_each_class_is_held_out_in_proportion_to_its_size() -> None:
    held_out = stratified_split(labels(50, 30, 21), 10)
    assert (held_out.shape, held_out.dtype) == ((101,), bool)
    assert [int(part.sum()) for part in np.split(held_out, [50, 80])] == [5, 3, 2]


def test_split_selects_the_same_images_forever() -> None:
    """Prepared data sets would change."""
    assert np.flatnonzero(stratified_split(labels(10, 6), 4)).tolist() == [5, 6, 9, 10]


def test_rare_class_has_at_least_one_image_in_both_splits() -> None:
    for sizes, count in (((2, 98), 2), ((2, 98), 10), ((2, 98), 90), ((3, 97), 99)):
        held_out = stratified_split(labels(*sizes), count)
        for part in np.split(held_out, [sizes[0]]):
            assert 0 < part.sum() < len(part)


@pytest.mark.parametrize(("sizes", "count", "missing"), [((1, 99), 60, "a"), ((50, 50), 101, "a, b")])
def test_split_that_leaves_a_class_without_images_is_refused(sizes: tuple[int, int], count: int, missing: str) -> None:
    held_out = stratified_split(labels(*sizes), count)
    with pytest.raises(PipelineError) as error:
        check_split(held_out, labels(*sizes), CLASSES, count, "train.validation")
    assert str(error.value).splitlines() == [
        f"error: train.validation holds out {count} of 100 images, which would leave one of the splits without "
        f"images of class {missing}",
        "hint: dvc exp run -S train.validation=10   # each class needs two images, or two groups (prepare.group)",
    ]


def test_each_image_is_held_out_in_one_fold_and_classes_are_spread_evenly(params: SimpleNamespace) -> None:
    pool = Dataset(np.zeros((101, 2, 2), np.uint8), labels(50, 31, 20), CLASSES)
    folds = assign_folds(pool, 5)
    for label, sizes in enumerate([{10}, {6, 7}, {4}]):
        assert set(np.bincount(folds[pool.labels == label], minlength=5)) == sizes
    splits = [split_training_images(pool, settings(params, validation=7, folds=5, fold=fold)) for fold in range(5)]
    assert [len(validation) for _, validation in splits] == [21, 20, 20, 20, 20]
    assert all((folds[validation] == fold).all() for fold, (_, validation) in enumerate(splits))
    assert all(set(training) | set(validation) == set(range(101)) for training, validation in splits)


def test_groups_stay_in_one_fold() -> None:
    groups = np.arange(60) // 3
    pool = Dataset(np.zeros((60, 2, 2), np.uint8), labels(30, 30), CLASSES[:2], groups=groups)
    folds = assign_folds(pool, 4)
    assert all(len(set(folds[groups == group])) == 1 for group in range(20))
    assert np.bincount(folds).tolist() == [15] * 4


def test_fold_with_all_images_of_a_class_is_refused(params: SimpleNamespace) -> None:
    pool = Dataset(np.zeros((9, 2, 2), np.uint8), labels(8, 1), CLASSES[:2])
    fold = int(assign_folds(pool, 2)[-1])
    with pytest.raises(PipelineError, match=rf"fold {fold} of 2 has all images of class b"):
        split_training_images(pool, settings(params, folds=2, fold=fold))


def test_without_validation_images_all_are_trained_on(params: SimpleNamespace) -> None:
    pool = Dataset(np.zeros((9, 2, 2), np.uint8), labels(8, 1), CLASSES[:2])
    training, validation = split_training_images(pool, settings(params))
    assert (training.tolist(), validation.tolist()) == (list(range(9)), [])


def test_given_validation_images_replace_folds(params: SimpleNamespace) -> None:
    given = np.arange(9) < 3
    pool = Dataset(np.zeros((9, 2, 2), np.uint8), labels(8, 1), CLASSES[:2], is_validation=given.astype(np.uint8))
    assert split_training_images(pool, settings(params, folds=5))[1].tolist() == [0, 1, 2]
    assert split_training_images(pool, settings(params))[1].tolist() == []
    with pytest.raises(PipelineError, match="a given validation split"):
        split_training_images(pool, settings(params, folds=5, fold=1))


def test_members_of_a_group_are_held_out_together() -> None:
    groups = np.array([0, 0, 1, 2, 2, 2, 0, 3, 4, 5, 4, 5])
    held_out = stratified_split(labels(6, 6), 4, groups)
    by_group = [set(held_out[groups == group].tolist()) for group in range(6)]
    assert sorted(map(list, by_group)) == [[False]] * 4 + [[True]] * 2  # 4 of 12 images: 2 of 6 groups


def test_split_far_from_its_size_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    for count, warning in ((25, ""), (24, "warning: train.validation holds out 30 images, expected about 24\n")):
        check_split(np.arange(100) % 10 < 3, labels(50, 50), CLASSES, count, "train.validation")
        assert capsys.readouterr().err == warning


def test_fraction_leaves_out_training_images_of_every_class_and_keeps_the_validation_images(
    params: SimpleNamespace,
) -> None:
    groups = np.arange(100) // 2
    pool = Dataset(np.zeros((100, 2, 2), np.uint8), labels(60, 40), CLASSES[:2], groups=groups)
    (all_images, validation), (half, same) = (
        split_training_images(pool, settings(params, validation=20, fraction=fraction)) for fraction in (1, 0.5)
    )
    assert same.tolist() == validation.tolist()
    assert set(half) < set(all_images)
    assert np.bincount(pool.labels[half]).tolist() == [24, 16]
    assert [int((groups[half] == group).sum()) for group in set(groups[half])] == [2] * 20
