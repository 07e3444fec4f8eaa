"""Hold out images of every class."""

import numpy as np

from src.data.dataset import Dataset
from src.runtime.errors import PipelineError


def stratified_split(dataset: Dataset, count: int, seed: int, parameter: str) -> tuple[Dataset, Dataset]:
    """Split off `count` random images, each class in proportion to its size, and keep the order.

    The count of each class is rounded by the largest remainder method, so that exactly `count` images are selected.

    Args:
        dataset: the images to split.
        count: the number of images to hold out; 0 for none.
        seed: which images to select.
        parameter: the name of the parameter that sets `count`, for the error message.

    Returns:
        The other images and the held-out images.

    Raises:
        PipelineError: a class would be missing in one of the two.
    """
    sizes = dataset.counts()
    exact = sizes * count / len(dataset)
    selected = np.floor(exact).astype(int)
    by_remainder = np.argsort(selected - exact, kind="stable")  # ties go to the lower class
    selected[by_remainder[: count - selected.sum()]] += 1
    if count and ((selected >= sizes) | (selected == 0)).any():
        value = 0.2 if parameter == "prepare.test" else len(dataset) // 10
        raise PipelineError(
            f"{parameter} holds out {count:,} of {len(dataset):,} images, which would leave a class without images in "
            "one of the splits",
            f"dvc exp run -S {parameter}={value}   # or add images of every class",
        )
    random = np.random.default_rng(seed)
    held_out = np.zeros(len(dataset), bool)
    for label, number in enumerate(selected):
        held_out[random.choice(np.flatnonzero(dataset.labels == label), number, replace=False)] = True
    return dataset[~held_out], dataset[held_out]
