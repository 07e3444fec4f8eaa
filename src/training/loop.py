"""The training loop. All random numbers depend only on seed, epoch, step and rank."""

import math
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src.data.dataset import Dataset
from src.device import report_out_of_memory
from src.models.inference import evaluate
from src.params import Train
from src.runtime.errors import PipelineError
from src.runtime.signals import defer_signals
from src.training.checkpoint import Checkpoints
from src.training.distributed import (
    all_reduce_sum,
    any_rank,
    is_main_process,
    rank,
    report_lost_process,
    world_size,
)
from src.training.progress import ProgressBar, report_row
from src.training.schedules import learning_rate_factor
from src.training.state import HistoryRow, TrainState
from src.transforms import preprocess, sample_augmentations, to_device

ORDER, RANDOM_LAYERS = 1, 2  # the uses of a derived seed


def train(
    state: TrainState,
    train_set: Dataset,
    validation_set: Dataset | None = None,
    checkpoints: Checkpoints | None = None,
    on_row: Callable[[list[HistoryRow]], None] = lambda _: None,
) -> list[HistoryRow]:
    """Train from `state`, or from the latest checkpoint, to the end, and return the history.

    With one process, an interrupted and resumed run gives the same bytes as an uninterrupted one.

    Args:
        state: changed in place.
        train_set: the training images.
        validation_set: images to evaluate on, as often as `train.validations` says.
        checkpoints: where to resume from and where to save.
        on_row: called with the history after resuming and after each new row, in the main process.

    Raises:
        KeyboardInterrupt: a signal arrived. The state is saved.
        PipelineError: a loss is NaN or infinite, or another process died.
    """
    images, labels = torch.from_numpy(train_set.images), torch.from_numpy(train_set.labels).long()
    with report_lost_process():
        history = checkpoints.restore(state) if checkpoints else []
    if history and is_main_process():
        on_row(history)

    with (
        report_lost_process(),
        report_out_of_memory(state.settings),
        defer_signals() as signal_received,
        ProgressBar(state) as bar,
    ):
        for epoch in range(state.step // state.steps.per_epoch, state.epochs):
            state.set_trainable(epoch)
            clock = time.perf_counter()
            for batch, targets in iterate_batches(state, images, labels, epoch):
                train_step(state, batch, targets)
                bar.show_step(state)
                if is_row := state.steps.ends_row(state.step):
                    torch.get_device_module(state.compute.device).synchronize()  # a GPU may still compute the steps
                state.seconds += time.perf_counter() - clock
                if is_row:
                    history.append(summarize_steps(state))
                    if is_main_process():
                        history[-1] |= validate(state, validation_set)
                        check_losses(history[-1], state.settings)
                        bar.clear()
                        report_row(history[-1], state.settings)
                        warn_if_worse_than_chance(history[-1], len(train_set.classes))
                        on_row(history)
                interrupted = any_rank(signal_received(), state.compute.device)
                if checkpoints and (is_row or interrupted or any_rank(checkpoints.is_due(), state.compute.device)):
                    checkpoints.save(state, history)
                if interrupted:
                    raise KeyboardInterrupt("the state is saved")
                clock = time.perf_counter()
    return history


def iterate_batches(state: TrainState, images: Tensor, labels: Tensor, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches from `state.step` to the end of `epoch`, in random order, augmented and normalized.

    Each of N processes takes every N-th image of a batch. Order and augmentation do not depend on N.

    Args:
        state: the settings, and the step to start from.
        images: uint8 [n, height, width] or [n, height, width, 3], on the CPU.
        labels: int64 [n], on the CPU.
        epoch: counts from 0.

    Yields:
        images float32 [batch, channels, height, width] and labels int64 [batch], on the device.
    """
    settings, device = state.settings, state.compute.device
    first, last = epoch * state.steps.per_epoch, min((epoch + 1) * state.steps.per_epoch, state.steps.total)
    generator = torch.Generator().manual_seed(derive_seed(settings.seed, ORDER, epoch))
    order = torch.randperm(len(images), generator=generator)
    augmentations = sample_augmentations(len(images), settings.augmentation, generator)
    batches = order.split(settings.batch_size)
    for step in range(state.step, last):
        chosen = batches[step - first][rank() :: world_size()]
        sampled = None if settings.augmentation.is_identity else augmentations[chosen]
        pixels = preprocess(
            to_device(images[chosen], device), state.normalize, sampled, settings.augmentation.interpolation
        )
        yield pixels.contiguous(memory_format=torch.channels_last), to_device(labels[chosen], device)


def train_step(state: TrainState, images: Tensor, labels: Tensor) -> None:
    """Run one optimizer step on a batch, and add its loss and accuracy to the sums for the next row of the history.

    Args:
        state: changed in place.
        images: float32 [batch, channels, height, width], normalized.
        labels: int64 [batch], class indices.
    """
    settings = state.settings
    with state.compute.autocast():
        state.model.train()
        seed_random_layers(derive_seed(settings.seed, RANDOM_LAYERS, state.step, rank()), state.compute.device)
        output = state.model(images).float()
        # log_softmax does not change log-probabilities, so this is also the negative log-likelihood of Net's output
        losses = F.cross_entropy(output, labels, label_smoothing=settings.label_smoothing, reduction="none")
    for optimizer in state.optimizers:
        optimizer.zero_grad()
    losses.mean().backward()
    for optimizer, scheduler in zip(state.optimizers, state.schedulers, strict=True):
        optimizer.step()
        scheduler.step()
    state.step += 1
    with torch.no_grad():  # no .item() here: it would wait for the GPU
        loss_sum = F.cross_entropy(output, labels, reduction="sum")
        correct = (output.argmax(dim=1) == labels).sum()
        state.sums += torch.stack([loss_sum, correct, torch.full_like(correct, len(labels))]).to(state.sums.dtype)


def summarize_steps(state: TrainState) -> HistoryRow:
    """Return the training metrics since the last row of the history, and reset their sums.

    Loss (without label smoothing) and accuracy are averages over the trained images, measured during their step. The
    learning rate is that of the last step.
    """
    loss, correct, seen = all_reduce_sum(state.sums).tolist()
    state.sums.zero_()
    rate = state.settings.learning_rate * learning_rate_factor(state.step - 1, state.steps, state.settings)
    epoch = state.step / state.steps.per_epoch
    return {"epoch": epoch, "learning_rate": rate, "train_loss": loss / seen, "train_accuracy": correct / seen}


def validate(state: TrainState, validation_set: Dataset | None) -> HistoryRow:
    """Return loss and accuracy on the validation images, in the precision of training.

    On some processors, bfloat16 takes half the time of float32.
    """
    if validation_set is None:
        return {}
    with state.compute.autocast():
        loss, accuracy = evaluate(state.classifier, validation_set, state.compute.device)
    return {"validation_loss": loss, "validation_accuracy": accuracy}


def warn_if_worse_than_chance(metrics: HistoryRow, num_classes: int) -> None:
    """Print a warning if only the validation loss is above that of equal probabilities for all classes."""
    if metrics["train_loss"] < math.log(num_classes) < metrics.get("validation_loss", 0):
        message = f"warning: the validation loss is above {math.log(num_classes):.4f}, the loss of a random guess"
        print(message, file=sys.stderr, flush=True)


def check_losses(metrics: HistoryRow, settings: Train) -> None:
    """Raise PipelineError if a loss is NaN or infinite."""
    losses = {name: value for name, value in metrics.items() if name.endswith("loss")}
    if not all(math.isfinite(value) for value in losses.values()):
        found = ", ".join(f"{name} {value}" for name, value in losses.items())
        raise PipelineError(
            f"training diverged at epoch {metrics['epoch']:.4g} with train.learning_rate {settings.learning_rate:g}: "
            f"{found}",
            f"dvc exp run -S train.learning_rate={settings.learning_rate / 10:g}",
        )


def seed_random_layers(seed: int, device: torch.device) -> None:
    """Seed the generators of the CPU and of `device`, which random layers such as dropout use.

    `torch.manual_seed` would also prepare the seeds of devices that are not in use, which takes 0.4 ms.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


def derive_seed(*keys: int) -> int:
    """Return a 64-bit seed for (seed, use, epoch or step, ...): random numbers do not depend on earlier ones.

    Trailing zeros do not count, so equal uses need equally many keys.
    """
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0])
