"""Training: tensors in memory, whole batches at a time, every random number from (seed, epoch)."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from src.augment import apply_mnist_image_transformations, draw_transforms
from src.dataset import Dataset
from src.evaluation import get_correct_prediction_count, to_device
from src.model import add_batch_norm, fold_batch_norm
from src.optim import build_optimizers, count_steps, rate_factor, set_rate
from src.params import Train

LOW_RESOLUTION = 5 / 7  # of each side: 20 of 28 pixels, a third of the multiplications
ALL_BEFORE, ALL_AFTER = 0.3, 0.97  # fractions of training, between which `train.hardest` counts: no loss means much
#                                    at the start, and the norms of the end are to be those of all images

Progress = Callable[[Iterable, int, int], Iterable]  # (batches, their number, epoch) to the same batches


@dataclass(frozen=True)
class EpochRecord:
    """Loss and accuracy (0 to 1) are means over the images learned from, as they were then; the rate, over steps."""

    epoch: int
    learning_rate: float
    train_loss: float
    train_accuracy: float


def fit(
    net: nn.Module,
    training: Dataset,
    settings: Train,
    device: torch.device,
    precision: torch.dtype,
    progress: Progress,
) -> Iterator[EpochRecord]:
    """Train `net` in place and yield a record after each epoch, of which the last may be a part.

    With `train.batch_norm`, `net` (a `Net`) holds the norms until its last record.
    """
    images, labels = to_device(training, device)
    if settings.batch_norm:
        add_batch_norm(net)
    net.to(device).to(memory_format=torch.channels_last)  # a fifth faster than the default layout on CPU
    optimizers = build_optimizers(net, settings, precision)
    steps = math.ceil(len(training) / settings.batch_size)
    total = count_steps(steps, settings)
    for epoch, start in enumerate(range(0, total, steps), start=1):
        factors = [rate_factor(step, steps, settings) for step in range(start, min(start + steps, total))]
        shares = [
            settings.hardest if ALL_BEFORE < step / total < ALL_AFTER else 1.0
            for step in range(start, start + len(factors))
        ]
        batches = progress(training_batches(images, labels, settings, epoch), len(factors), epoch)
        plan = zip(factors, shares, strict=True)
        loss, accuracy = train(net, batches, optimizers, plan, precision, settings.label_smoothing)
        if settings.batch_norm and start + steps >= total:
            fold_batch_norm(net)
        yield EpochRecord(epoch, settings.learning_rate * sum(factors) / len(factors), loss, accuracy)


def training_batches(images: Tensor, labels: Tensor, settings: Train, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch in their random order, transformed: float32 [b, 1, height, width], int64 [b]."""
    count, (height, width) = len(images), images.shape[1:]
    generator = torch.Generator().manual_seed(epoch_seed(settings.seed, epoch))
    order = torch.randperm(count, generator=generator).to(images.device)
    transforms = draw_transforms(count, settings.augmentation, generator).to(images.device)
    steps = math.ceil(count / settings.batch_size)
    total = count_steps(steps, settings)
    for step, chosen in zip(range((epoch - 1) * steps, total), order.split(settings.batch_size), strict=False):
        low = step < settings.low_resolution * total
        size = (round(height * LOW_RESOLUTION), round(width * LOW_RESOLUTION)) if low else (height, width)
        moved = None if settings.augmentation.none and not low else transforms[chosen]
        pixels = apply_mnist_image_transformations(
            images[chosen], settings.normalize, moved, settings.augmentation.interpolation, size
        )
        yield pixels, labels[chosen]


def train(
    net: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    optimizers: list[Optimizer],
    steps: Iterable[tuple[float, float]],
    precision: torch.dtype,
    smoothing: float,
) -> tuple[float, float]:
    """One epoch of training; the mean loss and the accuracy over the images, as they were when each batch was seen.

    Each of `steps` is the fraction of the learning rate, and the share of the batch that `hardest_images` leaves.
    `smoothing` is the share of each label that is spread evenly over all classes (Szegedy et al., 2015); the mean loss
    that is returned is that of the labels as they are.
    """
    net.train()
    loss_sum, correct, seen = 0.0, 0, 0
    for (images, labels), (factor, share) in zip(batches, steps, strict=True):
        set_rate(optimizers, factor)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16):
            if share < 1:
                images, labels = hardest_images(net, images, labels, share)
            log_probabilities = net(images)
            loss = F.nll_loss(log_probabilities, labels)
            objective = (1 - smoothing) * loss - smoothing * log_probabilities.mean() if smoothing else loss
        net.zero_grad()
        objective.backward()
        for optimizer in optimizers:
            optimizer.step()
        loss_sum += loss.item() * len(labels)
        correct += get_correct_prediction_count(log_probabilities, labels)
        seen += len(labels)
    return loss_sum / seen, correct / seen


@torch.no_grad()
def hardest_images(net: nn.Module, images: Tensor, labels: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """That share of a batch, two images at least, to which `net` now gives the largest losses, in the order they came.

    A forward pass is a third of a step, so a step on half the images costs five sixths of one on all of them.
    Source: Jiang et al., Accelerating Deep Learning by Focusing on the Biggest Losers, 2019.
    """
    net.eval()
    losses = F.nll_loss(net(images), labels, reduction="none")
    net.train()
    chosen = losses.topk(min(len(labels), max(2, round(len(labels) * share)))).indices.sort().values
    return images[chosen].contiguous(memory_format=torch.channels_last), labels[chosen]


def epoch_seed(seed: int, epoch: int) -> int:
    """One well-mixed 64-bit seed for each pair, so that an epoch's draws depend on nothing that came before it."""
    return int(np.random.SeedSequence((seed, epoch)).generate_state(1, np.uint64)[0])
