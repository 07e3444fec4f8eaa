"""The stratified split."""

import numpy as np
import pytest

from src.runtime.errors import PipelineError
from src.sources.split import stratified_split

CLASSES = ("a", "b", "c")


def labels(*sizes: int) -> np.ndarray:
    """Labels in the order of classes."""
    return np.repeat(np.arange(len(sizes), dtype=np.uint8), sizes)


def test_each_class_is_held_out_in_proportion_to_its_size() -> None:
    held_out = stratified_split(labels(50, 30, 21), CLASSES, 10, seed=1, parameter="prepare.validation")
    assert (held_out.shape, held_out.dtype) == ((101,), bool)
    assert [int(part.sum()) for part in np.split(held_out, [50, 80])] == [5, 3, 2]


def test_seed_selects_the_same_images_forever() -> None:
    """Prepared data sets would change."""
    assert np.flatnonzero(stratified_split(labels(10, 6), CLASSES, 4, 0, "x")).tolist() == [5, 6, 9, 10]
    assert np.flatnonzero(stratified_split(labels(10, 6), CLASSES, 4, 1, "x")).tolist() != [5, 6, 9, 10]


def test_rare_class_has_at_least_one_image_in_both_splits() -> None:
    for sizes, count in (((2, 98), 2), ((2, 98), 10), ((2, 98), 90), ((3, 97), 99)):
        held_out = stratified_split(labels(*sizes), CLASSES, count, 0, "x")
        for part in np.split(held_out, [sizes[0]]):
            assert 0 < part.sum() < len(part)


@pytest.mark.parametrize(("sizes", "count", "missing"), [((1, 99), 60, "a"), ((50, 50), 101, "a, b")])
def test_split_that_leaves_a_class_without_images_is_refused(sizes: tuple[int, int], count: int, missing: str) -> None:
    with pytest.raises(PipelineError) as error:
        stratified_split(labels(*sizes), CLASSES, count, 0, "prepare.validation")
    assert str(error.value).splitlines() == [
        f"error: prepare.validation holds out {count} of 100 images, which would leave one of the splits without "
        f"images of class {missing}",
        "hint: dvc exp run -S prepare.validation=10   # each class needs two images, or two groups (prepare.group)",
    ]


def test_members_of_a_group_are_held_out_together() -> None:
    groups = np.array([0, 0, 1, 2, 2, 2, 0, 3, 4, 5, 4, 5])
    held_out = stratified_split(labels(6, 6), CLASSES, 4, 0, "x", groups)
    by_group = [set(held_out[groups == group].tolist()) for group in range(6)]
    assert sorted(map(list, by_group)) == [[False]] * 4 + [[True]] * 2  # 4 of 12 images: 2 of 6 groups
