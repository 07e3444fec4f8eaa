"""Audit all three splits, and show training images before and after augmentation."""

from pathlib import Path

import numpy as np
import torch

from src.audit import audit, check_audit
from src.data.dataset import SPLITS, load_split
from src.device import use_portable_kernels
from src.drawing import plot_sample_training_images, to_uint8
from src.params import Normalize, Params
from src.runtime.cli import run_stage
from src.runtime.files import write_csv, write_json
from src.transforms import preprocess, sample_augmentations


def main(params: Params, prepared: Path, metrics: Path) -> None:
    use_portable_kernels(params.train)
    torch.set_num_threads(params.train.threads)
    splits = {split: load_split(prepared, split) for split in SPLITS}
    report, findings = audit(splits)
    write_json(metrics / "inspect.json", report)
    rows = [(*key, *row) for key, found in findings.items() for row in found]
    write_csv(metrics / "findings.csv", ["finding", "split", "file", "detail"], rows)
    normalize = params.train.normalize
    # pretrained weights need the mean and std of ImageNet, so those of the data may differ
    check_audit(report, findings, params.inspect, None if params.model.pretrained else normalize, prepared)
    train_set = splits["train"]
    counts = [split.counts().tolist() for split in splits.values()]
    write_csv(metrics / "class_balance.csv", ["class", *splits], zip(train_set.classes, *counts, strict=True))

    order = np.random.default_rng(params.inspect.seed).permutation(len(train_set))
    samples = train_set[order[: params.inspect.samples]]
    names = [train_set.classes[label] for label in samples.labels]
    plot_sample_training_images(metrics / "samples.png", samples.images, names, "Training images")
    settings = params.train.augmentation
    augmentations = sample_augmentations(len(samples), settings, torch.Generator().manual_seed(params.inspect.seed))
    mean = torch.tensor(normalize.mean if normalize else report["train"]["mean"]).view(-1, 1, 1)
    # normalize by the mean only and add it again: pixels stay from 0 to 1, and erased parts show the mean
    centered = Normalize(mean=mean.flatten().tolist(), std=[1])
    augmented = preprocess(torch.from_numpy(samples.images), centered, augmentations, settings.interpolation) + mean
    changes = ", ".join(f"{key} {value:g}" for key, value in settings if value and key != "interpolation")
    title = f"After augmentation: {changes or 'none'}"
    plot_sample_training_images(metrics / "augmented.png", to_uint8(augmented.numpy()), names, title)
    sizes = ", ".join(f"{len(split):,} {name}" for name, split in splits.items())
    found = f", findings in {metrics / 'findings.csv'}: {len(rows):,}" if rows else ""
    print(f"audit passed: {sizes} images{found}", flush=True)


if __name__ == "__main__":
    run_stage(main, check_model=False)
