"""The files of the project that the tools read, in the working tree, in a git revision or in an experiment."""

import io
import json
from pathlib import Path

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException

from src.data.predictions import read_predictions
from src.runtime.errors import PipelineError

PREPARED, MODEL = Path("data/prepared"), Path("data/model/model.safetensors")
MARGINS, PREDICTIONS = "data/model/margins.csv", "metrics/predictions.csv"
FIGURES = Path("dvc_plots")
EVALUATION = Path("metrics/evaluate.json")


def read_run(run: str, table: str) -> pd.DataFrame:
    """Return `MARGINS` or `PREDICTIONS` of a run.

    Args:
        run: a git revision, an experiment, or "workspace" for the working tree.

    Raises:
        PipelineError: there is none.
    """
    try:
        return read_predictions(io.StringIO(dvc.api.read(table, rev=None if run == "workspace" else run)))
    except (DvcException, OSError, ValueError) as error:
        raise PipelineError(
            f"`{run}` is not a revision, an experiment or `workspace` with {table}:\n{error}",
            "dvc repro; git log --oneline -- metrics; dvc exp list   # writes it, or lists other runs",
        ) from None


def read_threshold() -> float:
    """Return the confidence above which a prediction is sure: 0 if there were no validation images to choose it."""
    return float(json.loads(EVALUATION.read_text()).get("threshold", 0)) if EVALUATION.exists() else 0.0
