"""Audit all three splits, and show training images before and after augmentation."""

from pathlib import Path

import numpy as np
import torch

from src.audit import audit, check_audit
from src.data.dataset import SPLITS, load_split
from src.device import use_portable_kernels
from src.drawing import plot_sample_training_images
from src.params import Normalize, Params
from src.runtime.cli import run_stage
from src.runtime.errors import PipelineError
from src.runtime.files import write_csv, write_json
from src.transforms import preprocess, sample_affine

UNNORMALIZED = Normalize(mean=0, std=1)  # keeps pixels from 0 to 1


def main(params: Params, prepared: Path, metrics: Path) -> None:
    use_portable_kernels(params.train)
    splits = {split: load_split(prepared, split) for split in SPLITS}
    report = audit(splits)
    problems = check_audit(report, params.inspect, params.train.normalize, params.prepare.validation == 0)
    if problems:
        measured = " ".join(f"-S train.normalize.{key}={report['train'][key]:.4f}" for key in ("mean", "std"))
        raise PipelineError(
            "\n".join([f"the audit of {prepared} failed:", *problems]),
            f"dvc exp run {measured}   # if only mean or std differ",
        )
    write_json(metrics / "inspect.json", report)
    train_set = splits["train"]
    counts = [split.counts().tolist() for split in splits.values()]
    write_csv(metrics / "class_balance.csv", ["class", *splits], zip(train_set.classes, *counts, strict=True))

    order = np.random.default_rng(params.inspect.seed).permutation(len(train_set))
    samples = train_set[order[: params.inspect.samples]]
    augmentation = params.train.augmentation
    affine = sample_affine(len(samples), augmentation, torch.Generator().manual_seed(params.inspect.seed))
    augmented = preprocess(torch.from_numpy(samples.images), UNNORMALIZED, affine, augmentation.interpolation)
    names = [train_set.classes[label] for label in samples.labels]
    plot_sample_training_images(metrics / "samples.png", samples.images, names, "Training images")
    plot_sample_training_images(
        metrics / "augmented.png", augmented[:, 0].numpy(), names, "The same images, as training sees them"
    )
    print(f"audit passed: {', '.join(f'{len(split):,} {name}' for name, split in splits.items())} images", flush=True)


if __name__ == "__main__":
    run_stage(main)
