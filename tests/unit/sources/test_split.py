"""The stratified split."""

import numpy as np
import pytest

from src.data.dataset import Dataset
from src.runtime.errors import PipelineError
from src.sources.split import stratified_split


def dataset(*sizes: int) -> Dataset:
    """Images of one pixel, whose value is their index, sorted by class."""
    count = sum(sizes)
    labels = np.repeat(np.arange(len(sizes), dtype=np.uint8), sizes)
    images = np.arange(count, dtype=np.uint8).reshape(count, 1, 1)
    return Dataset(images, labels, tuple(f"class {index}" for index in range(len(sizes))))


def test_each_class_is_held_out_in_proportion_to_its_size() -> None:
    kept, held_out = stratified_split(dataset(50, 30, 21), 10, seed=1, parameter="prepare.validation")
    assert held_out.counts().tolist() == [5, 3, 2]
    assert kept.counts().tolist() == [45, 27, 19]


def test_every_image_is_in_exactly_one_split_and_in_order() -> None:
    kept, held_out = (part.images.ravel().tolist() for part in stratified_split(dataset(50, 30, 21), 10, 1, "x"))
    assert sorted(kept + held_out) == list(range(101))
    assert (kept, held_out) == (sorted(kept), sorted(held_out))


def test_seed_selects_the_held_out_images() -> None:
    first, same, other = (stratified_split(dataset(50, 50), 10, seed, "x")[1].images.tolist() for seed in (1, 1, 2))
    assert first == same != other


def test_count_of_zero_holds_out_no_images() -> None:
    kept, held_out = stratified_split(dataset(2, 2), 0, 0, "x")
    assert (len(kept), len(held_out)) == (4, 0)


@pytest.mark.parametrize(("sizes", "count"), [((1, 99), 60), ((50, 50), 100), ((50, 50), 101), ((1, 99), 2)])
def test_split_that_leaves_a_class_without_images_is_refused(sizes: tuple[int, int], count: int) -> None:
    message = f"prepare.validation holds out {count} of 100 images, which would leave a class without images"
    with pytest.raises(PipelineError, match=rf"{message}(.|\n)*hint: dvc exp run -S prepare.validation=10"):
        stratified_split(dataset(*sizes), count, 0, "prepare.validation")
