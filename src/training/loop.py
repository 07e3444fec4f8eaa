"""The training loop. All random numbers depend only on seed, epoch, step and rank."""

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from src.data.dataset import Dataset
from src.models.batch_norm import fold_batch_norm
from src.models.inference import evaluate
from src.params import Train
from src.registry import LOW_RES_SCALE
from src.runtime.errors import PipelineError
from src.runtime.signals import defer_signals
from src.training.checkpoint import Checkpoints
from src.training.distributed import (
    all_reduce_min,
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
from src.transforms import preprocess, sample_augmentations

# select_hardest is active between these fractions of training: early losses say little, and at the end the running
# statistics of batch norm have to cover all images
HARD_FROM, HARD_UNTIL = 0.3, 0.97


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

    with defer_signals() as signal_received, report_lost_process(), ProgressBar(state) as bar:
        for epoch in range(state.step // state.steps.per_epoch, state.epochs):
            state.set_trainable(epoch)
            state.losses = all_reduce_min(state.losses)
            clock = time.perf_counter()
            for batch, targets, indices in iterate_batches(state, images, labels, epoch):
                train_step(state, batch, targets, indices)
                bar.show_step(state)
                state.seconds += time.perf_counter() - clock
                if is_row := state.steps.ends_row(state.step):
                    history.append(summarize_steps(state))
                    if is_main_process():
                        history[-1] |= validate(state, validation_set)
                        check_losses(history[-1], state.settings)
                        bar.clear()
                        report_row(history[-1], state.settings)
                        on_row(history)
                interrupted = any_rank(signal_received(), state.compute.device)
                if checkpoints and (is_row or interrupted or any_rank(checkpoints.is_due(), state.compute.device)):
                    checkpoints.save(state, history)
                if interrupted:
                    raise KeyboardInterrupt("the state is saved")
                clock = time.perf_counter()
    return history


def iterate_batches(
    state: TrainState, images: Tensor, labels: Tensor, epoch: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the batches from `state.step` to the end of `epoch`, in random order, augmented and normalized.

    Each of N processes takes every N-th image of a batch. Order and augmentation do not depend on N. If
    `train.hard_fraction` is below 1, a part of each batch is skipped, see `select_hardest`.

    Args:
        state: the settings, and the step to start from.
        images: uint8 [n, height, width] or [n, height, width, 3], on the CPU.
        labels: int64 [n], on the CPU.
        epoch: counts from 0.

    Yields:
        images float32 [batch, channels, height, width], labels int64 [batch], and their indices in `images` int64
        [batch], on the device. Until `train.low_res_fraction` of training, images are smaller: progressive resizing
        (Howard, fastai, 2018).
    """
    settings, device, (height, width) = state.settings, state.compute.device, images.shape[1:3]
    first, last = epoch * state.steps.per_epoch, min((epoch + 1) * state.steps.per_epoch, state.steps.total)
    # epochs count from 1 here, as in history.csv
    generator = torch.Generator().manual_seed(derive_seed(settings.seed, epoch + 1))
    order = torch.randperm(len(images), generator=generator)
    augmentations = sample_augmentations(len(images), settings.augmentation, generator)
    batches = order.split(settings.batch_size)
    # keep only the losses of the images that this process trains on: `all_reduce_min` then finds the newest of each
    own = torch.cat([batch[rank() :: world_size()] for batch in batches])
    state.losses = torch.full_like(state.losses, math.inf).index_copy(0, own.to(device), state.losses[own])
    old_losses = state.losses.cpu()
    for step in range(state.step, last):
        low_res = step < settings.low_res_fraction * state.steps.total
        size = (round(height * LOW_RES_SCALE), round(width * LOW_RES_SCALE)) if low_res else None
        chosen = batches[step - first][rank() :: world_size()]
        if settings.hard_fraction < 1 and HARD_FROM < step / state.steps.total < HARD_UNTIL:
            chosen = select_hardest(old_losses, chosen, settings.hard_fraction)
        # low resolution needs augmentations, even if all are the identity: only `warp` resizes
        augment = low_res or not settings.augmentation.is_identity
        sampled = augmentations[chosen].to(device) if augment else None
        interpolation = settings.augmentation.interpolation
        pixels = preprocess(images[chosen].to(device), state.normalize, sampled, interpolation, size)
        yield pixels.contiguous(memory_format=torch.channels_last), labels[chosen].to(device), chosen.to(device)


def train_step(state: TrainState, images: Tensor, labels: Tensor, indices: Tensor) -> None:
    """Run one optimizer step on a batch, and add its loss and accuracy to the sums for the next row of the history.

    Args:
        state: changed in place.
        images: float32 [batch, channels, height, width], normalized.
        labels: int64 [batch], class indices.
        indices: int64 [batch], positions of the images in the training set.
    """
    settings = state.settings
    with state.compute.autocast():
        state.model.train()
        torch.manual_seed(derive_seed(settings.seed, state.step, rank()))  # for random layers, such as dropout
        output = state.model(images).float()
        # log_softmax does not change log-probabilities, so this is also the negative log-likelihood of Net's output
        loss = F.cross_entropy(output, labels, label_smoothing=settings.label_smoothing)
    for optimizer in state.optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer, scheduler in zip(state.optimizers, state.schedulers, strict=True):
        optimizer.step()
        scheduler.step()
    state.step += 1
    with torch.no_grad():  # no .item() here: it would wait for the GPU
        losses = F.cross_entropy(output, labels, reduction="none")
        state.losses[indices] = losses
        correct = (output.argmax(dim=1) == labels).sum()
        state.sums += torch.stack([losses.sum(), correct, torch.full_like(correct, len(labels))]).to(state.sums.dtype)


def select_hardest(losses: Tensor, indices: Tensor, fraction: float) -> Tensor:
    """Return the images of a batch with the largest losses when they were last trained on: two or more, in batch order.

    All images that were never trained on are kept. A skipped image keeps its old loss, so its turn comes when the
    losses of the others have fallen. This choice costs nothing. Selecting by current losses would cost a forward
    pass for equal accuracy. Several processes choose from their own images. Source: Jiang et al., Accelerating Deep
    Learning by Focusing on the Biggest Losers, 2019 (stale losses).

    Args:
        losses: float32 [n], of all training images; infinite for those never trained on.
        indices: int64 [batch], the images of the batch.
        fraction: how much of the batch to keep, 0 to 1.
    """
    values = losses[indices]
    keep = max(2, round(len(indices) * fraction), int(values.isinf().sum()))
    return indices[values.argsort(descending=True, stable=True)[:keep].sort().values]


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
    """Return loss and accuracy on the validation images, with batch norm folded into the weights.

    Use the precision of training: bfloat16 takes half the time of float32.
    """
    if validation_set is None:
        return {}
    net = fold_batch_norm(state.net)
    with state.compute.autocast():
        loss, accuracy = evaluate(net, validation_set, state.normalize, state.compute.device)
    return {"validation_loss": loss, "validation_accuracy": accuracy}


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


def derive_seed(*keys: int) -> int:
    """Return a 64-bit seed for (seed, epoch) or (seed, step, rank): random numbers do not depend on earlier ones."""
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0])
