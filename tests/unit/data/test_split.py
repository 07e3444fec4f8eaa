"""Which images are held out."""

import numpy as np
import pytest

from src.data.split import check_split, stratified_split
from src.runtime.errors import PipelineError
from tests.helpers import labels_of


def test_each_class_is_held_out_in_proportion_to_its_size() -> None:
    held_out = stratified_split(labels_of(50, 30, 21), 10)
    assert (held_out.shape, held_out.dtype) == ((101,), bool)
    assert [int(part.sum()) for part in np.split(held_out, [50, 80])] == [5, 3, 2]


def test_split_selects_the_same_images_forever() -> None:
    """Prepared data sets would change."""
    assert np.flatnonzero(stratified_split(labels_of(10, 6), 4)).tolist() == [5, 6, 9, 10]


def test_rare_class_has_at_least_one_image_in_both_splits() -> None:
    for sizes, count in (((2, 98), 2), ((2, 98), 10), ((2, 98), 90), ((3, 97), 99)):
        held_out = stratified_split(labels_of(*sizes), count)
        for part in np.split(held_out, [sizes[0]]):
            assert 0 < part.sum() < len(part)


@pytest.mark.parametrize(("sizes", "count", "missing"), [((1, 99), 60, "a"), ((50, 50), 101, "a, b")])
def test_split_that_leaves_a_class_without_images_is_refused(sizes: tuple[int, int], count: int, missing: str) -> None:
    held_out = stratified_split(labels_of(*sizes), count)
    with pytest.raises(PipelineError) as error:
        check_split(held_out, labels_of(*sizes), ("a", "b", "c"), count, "train.validation")
    assert str(error.value).splitlines() == [
        f"error: train.validation holds out {count} of 100 images, which would leave one of the splits without "
        f"images of class {missing}",
        "hint: dvc exp run -S train.validation=10   # each class needs two images, or two groups (prepare.group)",
    ]


def test_members_of_a_group_are_held_out_together() -> None:
    groups = np.array([0, 0, 1, 2, 2, 2, 0, 3, 4, 5, 4, 5])
    held_out = stratified_split(labels_of(6, 6), 4, groups)
    by_group = [set(held_out[groups == group].tolist()) for group in range(6)]
    assert sorted(map(list, by_group)) == [[False]] * 4 + [[True]] * 2  # 4 of 12 images: 2 of 6 groups


def test_split_far_from_its_size_is_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    for count, warning in ((25, ""), (24, "warning: train.validation holds out 30 images, expected about 24\n")):
        check_split(np.arange(100) % 10 < 3, labels_of(50, 50), ("a", "b", "c"), count, "train.validation")
        assert capsys.readouterr().err == warning
