"""Train the network on the training set, measure every epoch on the validation set, and save its weights."""

import math
import time
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from tqdm import tqdm

from src.dataset import load_dataset
from src.device import fingerprint, get_precision, prepare_device
from src.errors import PipelineError
from src.files import write_csv, write_json
from src.model import IMAGE, Net, initialize, summary
from src.params import Params
from src.stage import run_stage
from src.training import EpochRecord, fit
from src.weights import Description, save_model


def main(params: Params, train: Path, validation: Path, model: Path, history: Path, metrics: Path) -> None:
    settings = params.train
    device = prepare_device(settings)
    precision = get_precision(settings.precision, device)
    training, validation_set = load_dataset(train), load_dataset(validation)
    if training.images.shape[1:] != IMAGE:
        raise PipelineError(
            "the images do not fit the network",
            found=" x ".join(str(side) for side in training.images.shape[1:]),
            expected=" x ".join(str(side) for side in IMAGE),
            where=train,
            run="dvc repro --force --single-item prepare   # with images of that size",
        )
    net = Net(len(training.classes))
    initialize(net, settings.initialization, settings.seed)
    print(summary(net, (1, *training.images.shape[1:])))
    facts = fingerprint(device, precision)
    print(", ".join(f"{key} {value}" for key, value in facts.items()), flush=True)

    def progress(batches: Iterable, count: int, epoch: int) -> Iterable:
        label = f"epoch {epoch}/{settings.epochs}"
        bar: Iterable = tqdm(batches, label, count, unit="batch", leave=False, disable=None)
        return bar

    records: list[EpochRecord] = []
    start = time.perf_counter()
    for record in fit(net, training, validation_set, settings, device, precision, progress):
        if not math.isfinite(record.train_loss + record.validation_loss):
            raise PipelineError(
                "training diverged",
                found=f"a loss of {record.train_loss + record.validation_loss} in epoch {record.epoch}",
                expected="finite losses",
                where="params.yaml: train.learning_rate",
                run=f"dvc exp run -S train.learning_rate={settings.learning_rate / 10:g}",
            )
        records.append(record)
        write_csv(history, [field.name for field in fields(record)], [list(asdict(row).values()) for row in records])
        print(describe(record, settings.epochs), flush=True)
    seconds = time.perf_counter() - start

    images = len(training) * settings.epochs
    print(f"{images:,} images in {seconds:.1f} s, {images / seconds:,.0f} a second, validation included")
    save_model(
        model,
        net,
        Description(network="Net", classes=training.classes, normalize=settings.normalize, fingerprint=facts),
    )
    write_json(metrics, {"parameters": sum(weight.numel() for weight in net.parameters()), **asdict(records[-1])})


def describe(record: EpochRecord, epochs: int) -> str:
    return (
        f"epoch {record.epoch}/{epochs}  learning rate {record.learning_rate:.4g}"
        f"  train loss {record.train_loss:.4f} accuracy {record.train_accuracy:.4f}"
        f"  validation loss {record.validation_loss:.4f} accuracy {record.validation_accuracy:.4f}"
    )


if __name__ == "__main__":
    run_stage(main)
