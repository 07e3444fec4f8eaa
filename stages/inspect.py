"""Audit both splits, and show training images."""

from pathlib import Path

import numpy as np

from src.audit import audit, check_audit
from src.data.dataset import SPLITS, load_split
from src.params.inspect import InspectParams
from src.reporting.drawing import plot_sample_training_images
from src.runtime.cli import run_stage
from src.runtime.files import write_csv, write_json, write_table

SAMPLES, SEED = 40, 0  # how many images are shown, and which


def main(inspect: InspectParams, prepared: Path, metrics_dir: Path) -> None:
    train_set, test_set = (load_split(prepared, split) for split in SPLITS)
    splits = {"train": train_set, "test": test_set}
    if train_set.is_validation is not None:  # these images are the last ones
        count = int((train_set.is_validation == 0).sum())
        splits = {"train": train_set[:count], "validation": train_set[count:], "test": test_set}
    report, findings = audit(splits)
    write_json(metrics_dir / "inspect.json", report)
    rows = [(*key, *row) for key, found in findings.items() for row in found]
    write_csv(metrics_dir / "findings.csv", ["finding", "split", "item", "detail"], rows)
    check_audit(findings, inspect, prepared)
    counts = {split: report[split]["class_counts"] for split in splits}
    write_table(metrics_dir / "class_balance.csv", {"class": train_set.classes, **counts})

    samples = train_set[np.random.default_rng(SEED).permutation(len(train_set))[:SAMPLES]]
    names = [train_set.classes[label] for label in samples.labels]
    plot_sample_training_images(metrics_dir / "samples.png", samples.images[:], names, "Training images")
    print(f"audit passed, findings in {metrics_dir / 'findings.csv'}: {len(rows):,}", flush=True)


if __name__ == "__main__":
    run_stage(main)
