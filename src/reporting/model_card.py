"""The model card: how the model was made, how accurate it is, and what it is for."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from src.metrics import wilson_interval
from src.params import Params

MAX_CONFUSIONS = 5  # rows in the table of confusions


def model_card(
    params: Params,
    model: Path,
    audit: Mapping[str, Any],
    training: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    confusion: pd.DataFrame,
) -> str:
    """Return the model card in Markdown.

    Args:
        params: the parameters of the run.
        model: the model file.
        audit: the content of metrics/inspect.json.
        training: the content of metrics/train.json.
        evaluation: the content of metrics/evaluate.json. Each number becomes a row, with the interval from
            `<name>_low` to `<name>_high` if there is one.
        confusion: number of test images by actual class (rows) and predicted class (columns).
    """
    train, fingerprint = params.train, training["fingerprint"]
    height, width = audit["test"]["shape"]
    split = "validation" if params.prepare.validation else "test"
    per_class, errors = [], []
    for actual, row in confusion.iterrows():
        count, correct = row.sum(), row[actual]
        low, high = wilson_interval(correct, count)
        per_class.append([actual, f"{count:,}", f"{correct / count:.4f}", f"{low:.4f} to {high:.4f}"])
        errors += [[actual, predicted, n] for predicted, n in row.items() if n and predicted != actual]
    errors.sort(key=lambda error: -error[2])
    return f"""# Model card

Classifies gray images of {height} x {width} pixels into {len(confusion)} classes: {", ".join(confusion.index)}.

- File: `{model}`, SHA-256 `{hashlib.sha256(model.read_bytes()).hexdigest()}`
- Network: `{params.model.name}`, {training["parameters"]:,} parameters
- Training: {train.epochs:g} epochs on {audit["train"]["images"]:,} images with {train.optimizer}, learning rate
  {train.learning_rate:g}, batch size {train.batch_size}, seed {train.seed}. All other settings are in `params.yaml` of
  the same commit.
- Computed with torch {fingerprint["torch"]} on {fingerprint["device"]}, {fingerprint["precision"]}

## Metrics

{_table([f"on {audit['test']['images']:,} test images", ""], _metric_rows(evaluation))}
| accuracy on {audit["validation"]["images"]:,} {split} images after training | {training["validation_accuracy"]:.4f} |

These are the values of one run. Another seed gives slightly different ones.

{_table(["class", "images", "accuracy", "95 % interval"], per_class)}

The most frequent confusions:

{_table(["actual", "predicted", "images"], errors[:MAX_CONFUSIONS])}

## Use and limits

For learning, for comparing methods, and as a template for other data. Not for decisions about people. The metrics hold
for images like those of the data set: one object, cropped, centered and evenly lit. For an image with several objects,
with none, or straight from a camera, the model also returns a class, often with high confidence.
"""


def _metric_rows(metrics: Mapping[str, Any]) -> list[list[str]]:
    """Return name and value of each number, and the interval if there is one."""
    rows = []
    for name, value in metrics.items():
        if isinstance(value, int | float) and not name.endswith(("_low", "_high")):
            text = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
            if f"{name}_low" in metrics:
                text += f", 95 % interval {metrics[f'{name}_low']:.4f} to {metrics[f'{name}_high']:.4f}"
            rows.append([name.replace("_", " "), text])
    return rows


def _table(header: list[str], rows: list[list[Any]]) -> str:
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in [header, ["---"] * len(header), *rows])
