"""Read metrics/predictions.csv and data/model/validation.csv: one row per image of the test set or for validation."""

from pathlib import Path
from typing import IO

import pandas as pd

TEXT = {"actual": str, "predicted": str, "file": str}


def read_predictions(file: Path | IO[str]) -> pd.DataFrame:
    """Return `index`, `actual`, `predicted`, `confidence`, `probability` of `actual`, `file` and `group`.

    The last two are there only if the images have files or groups.

    Class names stay text, even 0 and NA.
    """
    return pd.read_csv(file, dtype=TEXT, keep_default_na=False)
