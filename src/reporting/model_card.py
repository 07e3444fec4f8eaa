"""The model card: what the model is, how good, and for what, in the figures of the run that made it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from src.metrics import wilson_interval

CONFUSIONS = 5  # the most frequent ones are listed

CARD = """# Model card

Tells which of {count} classes a grey image of {height} x {width} pixels shows: {names}.

- File: `{file}`, SHA-256 `{digest}`
- Network: `{network}`, {parameters:,} parameters
- Trained for {epochs:g} epochs on {train:,} images, by {optimizer} with learning rate {learning_rate:g} and batches of
  {batch_size}, seed {seed}; every other setting stands in `params.yaml` of the same commit
- Computed with torch {machine[torch]} on {machine[device]}, {machine[precision]}

## Figures

| | |
|---|---|
| accuracy on {test:,} test images | {accuracy:.4f}, 95 % interval {accuracy_low:.4f} to {accuracy_high:.4f} |
| errors | {errors:,} |
| loss | {loss:.4f} |
| expected calibration error | {expected_calibration_error:.4f} |
| accuracy on {validation:,} {measured_on} images after training | {validation_accuracy:.4f} |

These are of one run: another seed of the same recipe gives others.

{per_class}

The most frequent confusions:

{confusions}

## Use and limits

For learning, for comparing methods, and as a pattern for other data; for no decision about people. The figures hold for
images made as those of the data set: one object, cut out, centred and lit alike. On several objects, on none, or on
photos as a camera takes them, the model still answers, and often with confidence.
"""


def model_card(facts: Mapping[str, Any], matrix: np.ndarray, classes: Sequence[str]) -> str:
    """The card in Markdown, out of `facts` by the names in `CARD`, and counts [actual, predicted]."""
    right, counts = matrix.diagonal(), matrix.sum(axis=1)
    rows = zip(classes, counts, right / counts, *wilson_interval(right, counts), strict=True)
    per_class = [[name, f"{n:,}", f"{share:.4f}", f"{low:.4f} to {high:.4f}"] for name, n, share, low, high in rows]
    wrong = matrix - np.diag(matrix.diagonal())
    worst = [divmod(cell, len(classes)) for cell in (-wrong).ravel().argsort(kind="stable")[:CONFUSIONS].tolist()]
    confusions = [[classes[a], classes[p], str(wrong[a, p])] for a, p in worst if wrong[a, p]]
    return CARD.format(
        **facts,
        count=len(classes),
        names=", ".join(classes),
        per_class=_table(["class", "images", "accuracy", "95 % interval"], per_class),
        confusions=_table(["actual", "read as", "images"], confusions),
    )


def _table(header: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in [header, ["---"] * len(header), *rows])
