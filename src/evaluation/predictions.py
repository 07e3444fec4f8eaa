"""Read metrics/predictions.csv, which has one row per image of the test set."""

from pathlib import Path
from typing import IO

import pandas as pd

TEXT = {"actual": str, "predicted": str, "file": str}


def read_predictions(file: Path | IO[str]) -> pd.DataFrame:
    """Return `index`, `actual`, `predicted`, `confidence` and, if the images come from files, `file`.

    Class names stay text, even 0 and NA.
    """
    return pd.read_csv(file, dtype=TEXT, keep_default_na=False)
