"""The model card: how the model was made, how accurate it is, and what it is for.

It starts with the metadata that the Hugging Face Hub reads.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from src.evaluation.metrics import wilson_interval

MAX_CLASSES = 20  # rows in the table of classes
MAX_NAMED = 3  # confusions and classes in "What to look at next"
GAP = 0.05  # between training and validation accuracy; a larger one is called overfitting


def model_card(
    metadata: Mapping[str, Any],
    model_path: Path,
    reports: Mapping[str, Any],
    confusion: pd.DataFrame,
    units: pd.Series,
    suspicious: int,
) -> str:
    """Return the model card in Markdown.

    Args:
        reports: the contents of metrics/inspect.json, train.json and evaluate.json by stage. Each number of `evaluate`
            becomes a row, with the interval from `<name>_low` to `<name>_high` if there is one.
        confusion: number of test images by actual class (rows) and predicted class (columns).
        units: number of test images of each class, or of their groups if there are any, from which intervals follow.
        suspicious: number of training images whose label has a negative margin.
    """
    audit, training, evaluation = reports["inspect"], reports["train"], reports["evaluate"]
    run, environment = metadata["run"], metadata["environment"]
    values = run["model"] | run["train"] | run["augmentation"]
    settings = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in values.items())
    validation = ""
    if "validation_accuracy" in training:
        count, accuracy = training["validation_images"], training["validation_accuracy"]
        validation = f"| accuracy on {count:,} validation images | {accuracy:.4f} |\n"
    height, width, *color = audit["test"]["shape"]
    copies = {key: audit[key].get("train and test", 0) for key in audit if key.endswith("cross_split_duplicates")}
    or_near = " or near copies" if "near_cross_split_duplicates" in copies else ""
    return f"""---
{_front_matter(metadata, evaluation)}---

# Model card

Classifies {"color" if color else "gray"} images of {height} x {width} pixels into {len(confusion)} classes.

- File: `{model_path}`, SHA-256 `{hashlib.sha256(model_path.read_bytes()).hexdigest()}`
- Network: `{metadata["network"]}`, {training["num_params"]:,} parameters
- Trained on {training["train_images"]:,} images. Settings that are not 0: {settings}
- Computed with torch {environment["torch"]} on {environment["device"]}, {environment["precision"]}

## Metrics

{markdown_table([f"on {audit['test']['images']:,} test images", ""], _metrics(evaluation))}
{validation}| test images that are copies{or_near} of training images | {sum(copies.values()):,} |

The least accurate classes:

{markdown_table(["class", "images", "accuracy", "95 % interval"], _least_accurate_classes(confusion, units))}

## What to look at next

{_next_steps(training, confusion, units, suspicious)}

## Use and limits

For learning, for comparing methods, and as a template for other data. Not for decisions about people. The metrics are
those of one run, and hold for images like those of the data set. For any other image, for example one with several
objects or none of the classes, the model also returns a class, often with high confidence.
"""


def _front_matter(metadata: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    """Return YAML with the task, the data set and the metrics on the test set."""
    task, source = "image-classification", metadata["source"]
    metrics = [{"type": name, "value": round(evaluation[name], 4)} for name in ("accuracy", "macro_f1")]
    dataset = {"type": source, "name": source, "split": "test"}
    result = {"task": {"type": task}, "dataset": dataset, "metrics": metrics}
    model = {"name": metadata["network"], "results": [result]}
    tags = {"library_name": "pytorch", "pipeline_tag": task, "tags": ["dvc", task], "model-index": [model]}
    return str(yaml.safe_dump(tags, sort_keys=False))


def _metrics(evaluation: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield name and value of each number, and the interval if there is one."""
    for name, value in evaluation.items():
        if not name.endswith(("_low", "_high")):
            text = f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
            if f"{name}_low" in evaluation:
                text += f", 95 % interval {evaluation[f'{name}_low']:.4f} to {evaluation[f'{name}_high']:.4f}"
            yield name.replace("_", " "), text


def _least_accurate_classes(confusion: pd.DataFrame, units: pd.Series) -> Iterator[tuple[str, str, str, str]]:
    """Yield name, number of images, accuracy and interval of at most `MAX_CLASSES` classes."""
    correct, images = pd.Series(np.diag(confusion), confusion.index), confusion.sum(axis=1)
    for name, accuracy in (correct / images).dropna().nsmallest(MAX_CLASSES).items():
        low, high = wilson_interval(accuracy * units[name], units[name])
        yield name, f"{images[name]:,}", f"{accuracy:.4f}", f"{low:.4f} to {high:.4f}"


def _next_steps(training: Mapping[str, Any], confusion: pd.DataFrame, units: pd.Series, suspicious: int) -> str:
    """Return a list of what the numbers of this run suggest."""
    steps = []
    if "validation_accuracy" in training:
        train, validation = training["train_accuracy"], training["validation_accuracy"]
        advice = "overfitting: try more images, more augmentation or a smaller network"
        if train - validation < GAP:
            advice = "no overfitting; a larger network or more epochs may help"
        steps.append(f"Accuracy {train:.4f} in training and {validation:.4f} in validation: {advice}.")
        steps.append("Would more images help? `python -m tools.sweep default -S train.fraction=0.25,0.5,1` shows it.")
    errors = (confusion - np.diag(np.diag(confusion))).stack()
    most = errors[errors > 0].nlargest(MAX_NAMED).items()
    if pairs := ", ".join(f"{actual} → {predicted} ({images:,})" for (actual, predicted), images in most):
        steps.append(f"Most frequent confusions: {pairs}. See `metrics/confusion.png`.")
    accuracy = np.diag(confusion) / confusion.sum(axis=1).clip(lower=1)
    low, high = wilson_interval(accuracy * units, units.clip(lower=1))
    widest = ", ".join(map(str, (high - low).nlargest(MAX_NAMED).index))
    steps.append(f"Widest intervals: {widest}. More test images of these classes would make the result more certain.")
    if suspicious:
        text = f"{suspicious:,} training images looked more like another class: hard or wrongly labeled"
        steps.append(f"{text}. See `python -m tools.labels`.")
    return "\n".join(f"- {step}" for step in steps)


def markdown_table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [[str(cell).replace("|", "\\|") for cell in line] for line in (header, ["---"] * len(header), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
