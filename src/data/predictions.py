"""Tables of predictions (of test and validation images) and of margins (of training images)."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import pandas as pd

from src.data.dataset import Dataset

if TYPE_CHECKING:
    from torch import Tensor  # takes two seconds

TEXT = {"actual": str, "predicted": str, "suggested": str, "file": str}


def image_columns(dataset: Dataset) -> dict[str, Sequence[object]]:
    """Return the columns `index`, `actual`, and `file` and `group` if the images have them."""
    columns: dict[str, Sequence[object]] = {
        "index": dataset.indices.tolist(),
        "actual": [dataset.classes[label] for label in dataset.labels],
    }
    columns |= {"file": dataset.files} if dataset.files else {}
    return columns | ({} if dataset.groups is None else {"group": dataset.groups.tolist()})


def predictions_table(dataset: Dataset, log_probabilities: "Tensor") -> dict[str, Sequence[object]]:
    """Return a column per name: what the model predicts for each image, and the probability of its given class.

    Args:
        log_probabilities: float32 [n, classes].
    """
    probabilities, labels = log_probabilities.exp(), dataset.labels.astype(np.int64)
    confidence, predicted = probabilities.max(dim=1)
    return image_columns(dataset) | {
        "predicted": [dataset.classes[label] for label in predicted],
        "confidence": confidence.tolist(),
        "probability": probabilities[np.arange(len(labels)), labels].tolist(),
    }


def margins_table(dataset: Dataset, margins: "Tensor", rivals: "Tensor") -> dict[str, Sequence[object]]:
    """Return a column per name: the mean margin of each training image, and its rival, the suggested class.

    Args:
        margins: [n], NaN for images without a training step, which the table leaves out.
        rivals: int64 [n], classes.
    """
    seen = np.flatnonzero(~margins.isnan())
    return image_columns(dataset[seen]) | {
        "suggested": [dataset.classes[label] for label in rivals[seen]],
        "margin": margins[seen].tolist(),
    }


def read_predictions(file: Path | IO[str]) -> pd.DataFrame:
    """Return what `predictions_table` or `margins_table` returned. Class names stay text, even 0 and NA."""
    return pd.read_csv(file, dtype=TEXT, keep_default_na=False)
