"""Train the network on the training set, measure every epoch on the validation set, and save its weights."""

import math
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from src.data.dataset import IMAGE, Dataset, load_dataset
from src.device import fingerprint, get_precision, prepare_device
from src.models.inference import test
from src.models.model_file import Description, save_model
from src.models.net import NETWORKS, fold_batch_norm, initialize, summary
from src.params import Params, Train
from src.runtime.cli import interruption_deferred, run_stage
from src.runtime.errors import PipelineError
from src.runtime.files import write_csv, write_json
from src.training.checkpoint import checkpoint_path, load_checkpoint, remove_checkpoints, result_key, save_checkpoint
from src.training.distributed import any_of, check_same, join, launch, rank, share, world
from src.training.loop import EpochRecord, State, fit, start
from src.training.optimizers import count_steps


def main(
    params: Params, train: Path, validation: Path, checkpoints: Path, model: Path, history: Path, metrics: Path
) -> None:
    settings = params.train
    device = prepare_device(settings)
    precision = get_precision(settings, device)
    training, validation_set = load_dataset(train), load_dataset(validation)
    check_images(training, settings, train)
    launch(settings)
    join(device)
    if world() > 1:  # of one, the files are not read for it
        check_same(result_key(params, (train, validation), {}), device)
    first = rank() == 0
    net = NETWORKS[params.model.name](len(training.classes))
    initialize(net, settings.initialization, settings.seed)
    facts = fingerprint(device, precision)
    if first:
        print(summary(net, (1, *training.images.shape[1:])))
        print(", ".join(f"{key} {value}" for key, value in facts.items()), flush=True)

    state = start(net, settings, device, precision)
    steps_per_epoch, epochs = math.ceil(len(training) / settings.batch_size), math.ceil(settings.epochs)
    total = count_steps(steps_per_epoch, settings)
    folder = checkpoints / result_key(params, (train, validation), facts)
    rows = resume(folder, state, device)
    first_step = state.step
    if first and first_step:
        print(f"going on after step {first_step:,} of {total:,}, from {folder}", flush=True)
    if first and rows:
        write_history(history, rows)
    with interruption_deferred() as interrupted:
        saved = clock = time.perf_counter()
        measuring = 0.0
        steps = fit(state, training, settings, device, precision)
        scale = {"unit": " images", "unit_scale": settings.batch_size}
        bar = tqdm(steps, total=total, initial=first_step, **scale, leave=False, disable=None if first else True)
        for record in bar:
            stop = any_of(interrupted(), device)
            if first and state.seen:
                bar.set_description(f"epoch {state.step // steps_per_epoch + 1}/{epochs}", refresh=False)
                loss, accuracy = state.loss_sum / state.seen, state.correct / state.seen
                bar.set_postfix_str(f"loss {loss:.4f}, accuracy {accuracy:.4f}", refresh=False)
            if first and record:
                now = time.perf_counter()
                loss, accuracy = test(fold_batch_norm(net), validation_set, settings.normalize, device)
                bar.clear()
                check_losses(record, loss, settings)
                rows.append({**asdict(record), "validation_loss": loss, "validation_accuracy": accuracy})
                write_history(history, rows)
                print(describe(rows[-1], epochs), flush=True)
                measuring += time.perf_counter() - now
            if first and (record or stop or time.perf_counter() - saved > settings.checkpoint_seconds):
                save_checkpoint(folder, state, rows)
                saved = time.perf_counter()
            if stop:
                break
    if not first:
        return
    seconds = time.perf_counter() - clock - measuring
    print(f"{state.step - first_step:,} steps of {settings.batch_size} images in {seconds:.1f} s, validation excluded")

    net = fold_batch_norm(net)
    description = Description(
        network=params.model.name, classes=training.classes, normalize=settings.normalize, fingerprint=facts
    )
    save_model(model, net, description)
    parameters = sum(weight.numel() for weight in net.parameters())
    write_json(metrics, {"parameters": parameters, **rows[-1], "machine": facts})
    remove_checkpoints(folder)


def resume(folder: Path, state: State, device: torch.device) -> list[dict[str, Any]]:
    """Bring `state` to the newest whole checkpoint of the first process, which another machine may not have."""
    rows = load_checkpoint(folder, state) if rank() == 0 else []
    if world() > 1:
        content = share(checkpoint_path(folder, state).read_bytes() if state.step else b"", device)
        if content and rank():
            with tempfile.TemporaryDirectory() as copy:
                (Path(copy) / "shared.checkpoint").write_bytes(content)
                rows = load_checkpoint(Path(copy), state)
    return rows


def write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    write_csv(path, list(rows[0]), [list(row.values()) for row in rows])


def check_losses(record: EpochRecord, validation_loss: float, settings: Train) -> None:
    """Raises PipelineError where one is not finite."""
    loss = record.train_loss + validation_loss
    if not math.isfinite(loss):
        raise PipelineError(
            "training diverged",
            found=f"a loss of {loss} in epoch {record.epoch}",
            expected="finite losses",
            where="params.yaml: train.learning_rate",
            run=f"dvc exp run -S train.learning_rate={settings.learning_rate / 10:g}",
        )


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
    least = max(2 if settings.batch_norm else 1, settings.processes)
    if min(size, count % size or size) < least:
        raise PipelineError(
            "a batch has too few images",
            found=f"{count:,} images in batches of {size}",
            expected=f"{least} or more in every batch, the last too: two to normalise, one for each process",
            where="params.yaml: train.batch_size, train.batch_norm and train.processes",
            run="dvc exp run -S train.batch_norm=false -S train.processes=1   # or with another train.batch_size",
        )


def describe(row: dict[str, Any], epochs: int) -> str:
    return (
        f"epoch {row['epoch']}/{epochs}  learning rate {row['learning_rate']:.4g}"
        f"  train loss {row['train_loss']:.4f} accuracy {row['train_accuracy']:.4f}"
        f"  validation loss {row['validation_loss']:.4f} accuracy {row['validation_accuracy']:.4f}"
    )


if __name__ == "__main__":
    run_stage(main)
