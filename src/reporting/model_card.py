"""The model card: how the model was made, how accurate it is, and what it is for.

It starts with the metadata that the Hugging Face Hub reads.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from src.evaluation.metrics import wilson_interval

MAX_CONFUSIONS = 5  # rows in the table of confusions
MAX_CLASSES = 20  # class names in the first sentence, rows in the table of classes


def model_card(
    metadata: Mapping[str, Any],
    model_path: Path,
    audit: Mapping[str, Any],
    training: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    confusion: pd.DataFrame,
    measured_on: str,
) -> str:
    """Return the model card in Markdown.

    Args:
        metadata: of the model file.
        model_path: the model file.
        audit: the content of metrics/inspect.json.
        training: the content of metrics/train.json.
        evaluation: the content of metrics/evaluate.json. Each number becomes a row, with the interval from
            `<name>_low` to `<name>_high` if there is one.
        confusion: number of test images by actual class (rows) and predicted class (columns).
        measured_on: the split behind the validation metrics: "validation", or "test" if there is no validation set.
    """
    train, model, environment = metadata["run"]["train"], metadata["run"]["model"], metadata["environment"]
    height, width, *color = audit["test"]["shape"]
    kind, pretrained = "color" if color else "gray", ", pretrained on ImageNet" * ("pretrained" in model)
    averaged = ", averages over five shifted copies of an image" * metadata["test_time_augmentation"]
    measured = f"accuracy on {audit['validation']['images']:,} {measured_on} images after training"
    counts = [audit[key].get("train and test", 0) for key in audit if key.endswith("cross_split_duplicates")]
    known = "exact or near" if len(counts) > 1 else "exact"
    classes = ", ".join(confusion.index[:MAX_CLASSES]) + " and more" * (len(confusion) > MAX_CLASSES)
    per_class, errors = [], []
    for actual, row in confusion.iterrows():
        count, correct = row.sum(), row[actual]
        if count:
            low, high = wilson_interval(correct, count)
            per_class.append([actual, f"{count:,}", f"{correct / count:.4f}", f"{low:.4f} to {high:.4f}"])
        errors += [[actual, predicted, n] for predicted, n in row.items() if n and predicted != actual]
    heading = "Precision, recall and F1 of each class are in `metrics/per_class.csv`."
    if len(per_class) > MAX_CLASSES:
        per_class = sorted(per_class, key=lambda row: float(row[2]))[:MAX_CLASSES]
        heading += f" The {MAX_CLASSES} least accurate classes:"
    errors.sort(key=lambda error: -error[2])
    return f"""---
{_front_matter(metadata, evaluation)}---

# Model card

Classifies {kind} images of {height} x {width} pixels into {len(confusion)} classes: {classes}.

- File: `{model_path}`, SHA-256 `{hashlib.sha256(model_path.read_bytes()).hexdigest()}`
- Network: `{metadata["network"]}`, {training["num_params"]:,} parameters{pretrained}{averaged}
- Training: {train["epochs"]:g} epochs on {audit["train"]["images"]:,} images with {train["optimizer"]}, learning rate
  {train["learning_rate"]:g}, batch size {train["batch_size"]}, seed {train.get("seed", 0)}. All other settings are in
  `params.yaml` of the same commit.
- Computed with torch {environment["torch"]} on {environment["device"]}, {environment["precision"]}

## Metrics

{_table([f"on {audit['test']['images']:,} test images", ""], _metric_rows(evaluation))}
| {measured}, in {environment["precision"]} | {training["validation_accuracy"]:.4f} |
| test images that are {known} copies of training images | {sum(counts):,} |

These are the values of one run. Another seed gives slightly different ones.

{heading}

{_table(["class", "images", "accuracy", "95 % interval"], per_class)}

The most frequent confusions:

{_table(["actual", "predicted", "images"], errors[:MAX_CONFUSIONS])}

## Use and limits

For learning, for comparing methods, and as a template for other data. Not for decisions about people. The metrics hold
for images like those of the data set. For any other image, for example one with several objects or none of the classes,
the model also returns a class, often with high confidence.
"""


def _front_matter(metadata: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    """Return YAML with the task, the data set and the metrics on the test set."""
    task, dataset = "image-classification", metadata["source"]
    metrics = [{"type": key, "value": round(evaluation[key], 4)} for key in ("accuracy", "macro_f1")]
    result = {"task": {"type": task}, "dataset": {"type": dataset, "name": dataset, "split": "test"}}
    text: str = yaml.safe_dump(
        {
            "library_name": "pytorch",
            "pipeline_tag": task,
            "tags": ["dvc", task],
            "model-index": [{"name": metadata["network"], "results": [result | {"metrics": metrics}]}],
        },
        sort_keys=False,
    )
    return text


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
    lines = [[str(cell).replace("|", "\\|") for cell in line] for line in [header, ["---"] * len(header), *rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
