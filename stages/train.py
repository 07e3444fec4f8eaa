"""Train the network on the training set, measure every epoch on the validation set, and save its weights."""

import math
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from src.dataset import Dataset, load_dataset
from src.device import fingerprint, get_precision, prepare_device
from src.errors import PipelineError
from src.evaluation import test
from src.files import write_csv, write_json
from src.model import IMAGE, NETWORKS, initialize, summary
from src.params import Params, Train
from src.stage import run_stage
from src.training import fit
from src.weights import Description, save_model


def main(params: Params, train: Path, validation: Path, model: Path, history: Path, metrics: Path) -> None:
    settings = params.train
    device = prepare_device(settings)
    precision = get_precision(settings.precision, device)
    training, validation_set = load_dataset(train), load_dataset(validation)
    check_images(training, settings, train)
    net = NETWORKS[params.model.name](len(training.classes))
    initialize(net, settings.initialization, settings.seed)
    print(summary(net, (1, *training.images.shape[1:])))
    facts = fingerprint(device, precision)
    print(", ".join(f"{key} {value}" for key, value in facts.items()), flush=True)

    def progress(batches: Iterable, count: int, epoch: int) -> Iterable:
        label = f"epoch {epoch}/{math.ceil(settings.epochs)}"
        bar: Iterable = tqdm(batches, label, count, unit="batch", leave=False, disable=None)
        return bar

    rows: list[dict[str, Any]] = []
    seconds, start = 0.0, time.perf_counter()
    for record in fit(net, training, settings, device, precision, progress):
        seconds += time.perf_counter() - start
        loss, accuracy = test(net, validation_set, settings.normalize, device)
        if not math.isfinite(record.train_loss + loss):
            raise PipelineError(
                "training diverged",
                found=f"a loss of {record.train_loss + loss} in epoch {record.epoch}",
                expected="finite losses",
                where="params.yaml: train.learning_rate",
                run=f"dvc exp run -S train.learning_rate={settings.learning_rate / 10:g}",
            )
        rows.append({**asdict(record), "validation_loss": loss, "validation_accuracy": accuracy})
        write_csv(history, list(rows[0]), [list(row.values()) for row in rows])
        print(describe(rows[-1], math.ceil(settings.epochs)), flush=True)
        start = time.perf_counter()

    images = round(len(training) * settings.epochs)
    print(f"{images:,} images in {seconds:.1f} s, {images / seconds:,.0f} a second, validation excluded")
    description = Description(
        network=params.model.name, classes=training.classes, normalize=settings.normalize, fingerprint=facts
    )
    save_model(model, net, description)
    write_json(metrics, {"parameters": sum(weight.numel() for weight in net.parameters()), **rows[-1]})


def check_images(training: Dataset, settings: Train, path: Path) -> None:
    """Raises PipelineError where the network or the batches do not suit the images."""
    count, size = len(training), settings.batch_size
    if training.images.shape[1:] != IMAGE:
        raise PipelineError(
            "the images do not fit the network",
            found=" x ".join(str(side) for side in training.images.shape[1:]),
            expected=" x ".join(str(side) for side in IMAGE),
            where=path,
            run="dvc repro --force --single-item prepare   # with images of that size",
        )
    if settings.batch_norm and 1 in (size, count % size):
        raise PipelineError(
            "a batch of one image cannot be normalised",
            found=f"{count:,} images in batches of {size}",
            expected="two images or more in every batch, the last too",
            where="params.yaml: train.batch_size and train.batch_norm",
            run=f"dvc exp run -S train.batch_size={size + 1}",
        )


def describe(row: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {row['epoch']}/{epochs}  learning rate {row['learning_rate']:.4g}"
        f"  train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.4f}"
        f"  validation loss {row['validation_loss']:.4f} accuracy {row['validation_accuracy']:.4f}"
    )


if __name__ == "__main__":
    run_stage(main)
