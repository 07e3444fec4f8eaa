"""The validation set: seeded, stratified, and taken from the training images alone."""

import numpy as np

from src.runtime.errors import PipelineError


def stratified_split(
    labels: np.ndarray, held_out: int, seed: int, parameter: str = "prepare.validation"
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (kept, held out), int64, ascending, where each class is held out in proportion to its size.

    Shares are rounded by largest remainder, so that exactly `held_out` indices are chosen and no class is off by more
    than one. Raises PipelineError, with the name of `parameter`, when a class would be left without an image on either
    side.
    """
    classes, counts = np.unique(labels, return_counts=True)
    shares = counts * held_out / len(labels)
    take = np.floor(shares).astype(int)
    largest = np.argsort(take - shares, kind="stable")  # ties go to the lower class
    take[largest[: held_out - take.sum()]] += 1
    if held_out and ((take >= counts) | (take == 0)).any():
        fitting = 0.2 if parameter == "prepare.test" else len(labels) // 10
        raise PipelineError(
            "the images held out do not fit the data",
            found=f"{held_out:,} of {len(labels):,} images leave a class without one on either side",
            expected="an image of each class on either side",
            where=f"params.yaml: {parameter}",
            run=f"dvc exp run -S {parameter}={fitting}   # or with more images of each class",
        )

    random = np.random.default_rng(seed)
    chosen = [
        random.choice(np.flatnonzero(labels == name), size, replace=False)
        for name, size in zip(classes, take, strict=True)
    ]
    mask = np.zeros(len(labels), bool)
    mask[np.concatenate(chosen)] = True
    return np.flatnonzero(~mask), np.flatnonzero(mask)
