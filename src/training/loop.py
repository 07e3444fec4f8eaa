"""Training: tensors in memory, whole batches at a time, every random number from (seed, epoch)."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from src.data.dataset import Dataset
from src.models.inference import get_correct_prediction_count, to_device
from src.models.net import add_batch_norm
from src.params import Train
from src.training.distributed import add_up, add_up_gradients, everyones, rank, share_batch_norms, world
from src.training.optimizers import build_optimizers, count_steps, rate_factor, set_rate
from src.transforms import apply_mnist_image_transformations, draw_transforms

LOW_RESOLUTION = 5 / 7  # of each side: 20 of 28 pixels, a third of the multiplications
ALL_BEFORE, ALL_AFTER = 0.3, 0.97  # fractions of training, between which `train.hardest` counts: no loss means much
#                                    at the start, and the norms of the end are to be those of all images


@dataclass
class State:
    """Where training stands after `step` steps: all that the next one depends on, beside data and settings."""

    net: nn.Module
    optimizers: list[Optimizer]
    step: int = 0
    loss_sum: float = 0.0  # over the images seen in the epoch under way, as are the next two
    correct: int = 0
    seen: int = 0


@dataclass(frozen=True)
class EpochRecord:
    """Loss and accuracy (0 to 1) are means over the images learned from, as they were then; the rate, over steps."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float


def start(net: nn.Module, settings: Train, device: torch.device, precision: torch.dtype) -> State:
    """Before the first step: `net`, moved to `device`, with its optimisers and with the norms that it trains with."""
    if settings.batch_norm:
        add_batch_norm(net)
    share_batch_norms(net)
    net.to(device).to(memory_format=torch.channels_last)  # a fifth faster than the default layout on CPU
    return State(net, build_optimizers(net, settings, precision))


def fit(
    state: State, training: Dataset, settings: Train, device: torch.device, precision: torch.dtype
) -> Iterator[EpochRecord | None]:
    """Train from `state` to the end, in place; yield after each step: the record of the epoch it ended, or None.

    The last epoch may be a part of one. Between two steps `state` may be saved, and a process that loads it goes on
    to the same bytes.
    """
    images, labels = to_device(training, device)
    steps = math.ceil(len(training) / settings.batch_size)
    total = count_steps(steps, settings)
    while state.step < total:
        for batch, targets in training_batches(images, labels, settings, state.step):
            set_rate(state.optimizers, rate_factor(state.step, steps, settings))
            share = settings.hardest if ALL_BEFORE < state.step / total < ALL_AFTER else 1.0
            train_batch(state, batch, targets, share, precision, settings.label_smoothing)
            yield end_epoch(state, steps, settings) if state.step % steps == 0 or state.step == total else None


def training_batches(images: Tensor, labels: Tensor, settings: Train, first: int) -> Iterator[tuple[Tensor, Tensor]]:
    """From step `first` to the end of its epoch, in random order, transformed: float32 [b, 1, h, w], int64 [b].

    Of several processes, each yields its own share of the batch; order and transforms are those of one alone.
    """
    count, (height, width) = len(images), images.shape[1:]
    steps = math.ceil(count / settings.batch_size)
    total = count_steps(steps, settings)
    epoch, skipped = divmod(first, steps)
    generator = torch.Generator().manual_seed(epoch_seed(settings.seed, epoch + 1))
    order = torch.randperm(count, generator=generator).to(images.device)
    transforms = draw_transforms(count, settings.augmentation, generator).to(images.device)
    for step, chosen in zip(range(first, total), order.split(settings.batch_size)[skipped:], strict=False):
        low = step < settings.low_resolution * total
        size = (round(height * LOW_RESOLUTION), round(width * LOW_RESOLUTION)) if low else (height, width)
        chosen = chosen[rank() :: world()]
        moved = None if settings.augmentation.none and not low else transforms[chosen]
        pixels = apply_mnist_image_transformations(
            images[chosen], settings.normalize, moved, settings.augmentation.interpolation, size
        )
        yield pixels, labels[chosen]


def train_batch(
    state: State, images: Tensor, labels: Tensor, share: float, precision: torch.dtype, smoothing: float
) -> None:
    """One step, on the share of the batch that `hardest_images` leaves.

    `smoothing` is the share of each label that is spread evenly over all classes (Szegedy et al., 2015); the loss that
    `state` sums up is that of the labels as they are, before the step.
    """
    state.net.train()
    images = images.contiguous(memory_format=torch.channels_last)
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
        if share < 1:
            images, labels = hardest_images(state.net, images, labels, share)
        log_probabilities = state.net(images)
        # of several processes, one may have none of the hardest images
        loss = F.nll_loss(log_probabilities, labels) if len(labels) else log_probabilities.sum()
        objective = (1 - smoothing) * loss - smoothing * log_probabilities.mean() if smoothing else loss
        if world() > 1:  # this process's part of the mean over all
            objective = objective * (len(labels) / add_up(torch.tensor(float(len(labels)), device=labels.device)))
    state.net.zero_grad()
    objective.backward()
    seen = [loss.item() * len(labels), get_correct_prediction_count(log_probabilities, labels), len(labels)]
    loss_sum, correct, count = add_up_gradients(state.net, seen)
    for optimizer in state.optimizers:
        optimizer.step()
    state.step += 1
    state.loss_sum += loss_sum
    state.correct += int(correct)
    state.seen += int(count)


def end_epoch(state: State, steps: int, settings: Train) -> EpochRecord:
    """The record of the epoch, of up to `steps` steps, that has just ended; its sums start anew."""
    epoch = (state.step - 1) // steps
    factors = [rate_factor(step, steps, settings) for step in range(epoch * steps, state.step)]
    rate = settings.learning_rate * sum(factors) / len(factors)
    record = EpochRecord(epoch + 1, rate, state.loss_sum / state.seen, state.correct / state.seen)
    state.loss_sum, state.correct, state.seen = 0.0, 0, 0
    return record


@torch.no_grad()
def hardest_images(net: nn.Module, images: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """That share of a batch, two images at least, to which `net` now gives the largest losses, in the order they came.

    A forward pass is a third of a step, so a step on half the images costs five sixths of one on all of them.
    Source: Jiang et al., Accelerating Deep Learning by Focusing on the Biggest Losers, 2019.
    """
    net.eval()
    losses = F.nll_loss(net(images), labels, reduction="none")
    net.train()
    if world() > 1:
        everything = everyones(losses)
        hardest = everything.topk(min(len(everything), max(2, round(len(everything) * share)))).values[-1]
        chosen = (~(losses < hardest)).nonzero().flatten()  # also where it is NaN
    else:
        chosen = losses.topk(min(len(labels), max(2, round(len(labels) * share)))).indices.sort().values
    return images[chosen].contiguous(memory_format=torch.channels_last), labels[chosen]


def epoch_seed(seed: int, epoch: int) -> int:
    """One well-mixed 64-bit seed for each pair, so that an epoch's draws depend on nothing that came before it."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0])
