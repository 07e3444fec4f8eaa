"""Tables of predictions: metrics/predictions.csv of the test set, data/model/validation.csv of validation images."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import pandas as pd

from src.data.dataset import Dataset

if TYPE_CHECKING:
    from torch import Tensor  # takes two seconds

TEXT = {"actual": str, "predicted": str, "file": str}


def predictions_table(
    dataset: Dataset, log_probabilities: "Tensor", indices: np.ndarray
) -> dict[str, Sequence[object]]:
    """Return a column per name: what the model predicts for each image, and the probability of its given class.

    Args:
        dataset: the images.
        log_probabilities: float32 [n, classes].
        indices: the number of each image in its file.
    """
    probabilities, labels = log_probabilities.exp(), dataset.labels.astype(np.int64)
    confidence, predicted = probabilities.max(dim=1)
    table: dict[str, Sequence[object]] = {
        "index": indices.tolist(),
        "actual": [dataset.classes[label] for label in labels.tolist()],
        "predicted": [dataset.classes[label] for label in predicted.tolist()],
        "confidence": confidence.tolist(),
        "probability": probabilities[np.arange(len(labels)), labels].tolist(),
    }
    table |= {"file": dataset.files} if dataset.files else {}
    return table | ({} if dataset.groups is None else {"group": dataset.groups.tolist()})


def read_predictions(file: Path | IO[str]) -> pd.DataFrame:
    """Return `index`, `actual`, `predicted`, `confidence`, `probability` of `actual`, `file` and `group`.

    The last two are there only if the images have files or groups. Class names stay text, even 0 and NA.
    """
    return pd.read_csv(file, dtype=TEXT, keep_default_na=False)
