"""Show samples of the training set, before and after augmentation, and audit all three splits."""

from pathlib import Path

import numpy as np
import torch

from src.audit import audit, violations
from src.data.dataset import load_dataset
from src.device import make_portable
from src.drawing import plot_sample_training_images
from src.params import Params
from src.runtime.cli import run_stage
from src.runtime.errors import PipelineError
from src.runtime.files import write_csv, write_json
from src.transforms import draw_transforms, transform


def main(
    params: Params,
    train: Path,
    validation: Path,
    test: Path,
    report: Path,
    balance: Path,
    samples: Path,
    augmented: Path,
) -> None:
    make_portable(params.train)
    splits = {"train": load_dataset(train), "validation": load_dataset(validation), "test": load_dataset(test)}
    figures = audit(splits)
    wrong = violations(figures, params.inspect, params.train.normalize, same_test_set=params.prepare.validation == 0)
    if wrong:
        measured = " ".join(f"-S train.normalize.{key}={figures['train'][key]:.4f}" for key in ("mean", "std"))
        raise PipelineError(
            "the data are not what they should be",
            found="\n            ".join(wrong),
            expected="see the parameters inspect.* and train.normalize",
            where=f"{train}, {validation}, {test}",
            run=f"dvc exp run {measured}   # where only these differ",
        )
    write_json(report, figures)
    counts = np.stack([split.counts() for split in splits.values()], axis=1).tolist()
    write_csv(
        balance, ["class", *splits], [[name, *row] for name, row in zip(splits["train"].classes, counts, strict=True)]
    )

    training, random = splits["train"], np.random.default_rng(params.inspect.seed)
    chosen = training[random.permutation(len(training))[: params.inspect.samples]]
    generator = torch.Generator().manual_seed(params.inspect.seed)
    settings = params.train.augmentation
    seen = transform(
        torch.from_numpy(chosen.images).unsqueeze(1) / 255,
        draw_transforms(len(chosen), settings, generator),
        settings.interpolation,
        (training.images.shape[1], training.images.shape[2]),
    )
    names = [training.classes[label] for label in chosen.labels]
    plot_sample_training_images(samples, chosen.images, names, "Training images")
    plot_sample_training_images(augmented, seen.squeeze(1).numpy(), names, "The same images, as training sees them")
    print(f"audit passed: {', '.join(f'{len(split):,} {name}' for name, split in splits.items())} images", flush=True)


if __name__ == "__main__":
    run_stage(main)
