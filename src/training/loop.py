"""The training loop. All random numbers depend only on seed, epoch, step and rank."""

import math
from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from src.augmentation import augment, sample_augmentations
from src.data.dataset import Dataset
from src.models.inference import evaluate
from src.preprocessing import normalize, to_device, to_float, to_uint8
from src.runtime.errors import PipelineError
from src.runtime.signals import defer_signals
from src.training.checkpoint import Checkpoint
from src.training.distributed import all_reduce, any_rank, is_main_process, rank, world_size
from src.training.optim import set_lr
from src.training.state import Metrics, TrainState

ORDER, RANDOM_LAYERS = 1, 2  # the uses of a derived seed


def train(
    state: TrainState,
    train_set: Dataset,
    validation_set: Dataset | None = None,
    checkpoint: Checkpoint | None = None,
    on_eval: Callable[[list[Metrics]], None] = lambda _: None,
) -> list[Metrics]:
    """Train from `state`, or from its checkpoint, to the end, and return the metrics of each evaluation.

    With one process, an interrupted and resumed run gives the same bytes as an uninterrupted one.

    Args:
        state: changed in place.
        on_eval: called in every process with all metrics so far, after resuming and after each evaluation.

    Raises:
        KeyboardInterrupt: a signal arrived. The checkpoint, if there is one, is saved.
        PipelineError: a loss is NaN or infinite.
    """
    eval_steps = evaluation_steps(state)
    message = "the state is saved" if checkpoint else "nothing is saved"
    with defer_signals(message) as signal_received:
        history = checkpoint.restore(state) if checkpoint else []
        if history:
            on_eval(history)
        progress = tqdm(
            iterate_batches(state, train_set),
            total=state.total_steps,
            initial=state.step,
            unit=" steps",
            leave=False,
            disable=None if is_main_process() else True,
        )
        for indices, images, labels in progress:
            train_step(state, indices, images, labels)
            if is_eval_step := state.step in eval_steps:
                progress.clear()
                history.append(log_metrics(state, validation_set))
                on_eval(history)
            is_due = checkpoint is not None and checkpoint.is_due()
            interrupted, is_due = any_rank(state.setup.device, signal_received(), is_due)
            if checkpoint and (is_eval_step or interrupted or is_due):
                checkpoint.save(state, history)
            if interrupted:
                raise KeyboardInterrupt(message)
    return history


def train_step(state: TrainState, indices: Tensor, images: Tensor, labels: Tensor) -> None:
    """Run one optimizer step on a batch, and record its loss, its accuracy and the margins of its labels.

    Args:
        state: changed in place.
        indices: int64 [batch], the numbers of the images in the training set.
        images: float32 [batch, channels, height, width], normalized.
        labels: int64 [batch], class indices.
    """
    settings = state.settings
    set_lr(state.optimizers, state.lr_factor(state.step))
    seed_random_layers(derive_seed(settings.seed, RANDOM_LAYERS, rank()) ^ state.step, state.setup.device)
    state.parallel_net.train()
    with state.setup.autocast():
        output = state.parallel_net(images)
    output = output.float()
    losses = image_losses(output, labels, settings.label_smoothing) * state.class_weights[labels]
    state.parallel_net.zero_grad()
    losses.mean().backward()
    for optimizer in state.optimizers:
        optimizer.step()
    state.step += 1
    with torch.no_grad():  # no .item() here: it would wait for the GPU
        loss = image_losses(output, labels, label_smoothing=0).sum()
        correct = (output.argmax(dim=1) == labels).sum()
        metrics = torch.stack([loss, correct, torch.full_like(correct, len(labels))])
        state.running_metrics += metrics.to(state.running_metrics.dtype)
        state.margins.add(indices, output, labels, state.step)


def image_losses(output: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the cross-entropy of each image, float32 [batch].

    For `Net`, whose output are log-probabilities already, this is the negative log-likelihood.

    Args:
        output: logits or log-probabilities, float32 [batch, classes].
        labels: class indices, int64 [batch], or probabilities, float32 [batch, classes].
    """
    return F.cross_entropy(output, labels, label_smoothing=label_smoothing, reduction="none")


def iterate_batches(state: TrainState, train_set: Dataset) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the batches from `state.step` to the end of training, in random order, augmented and normalized.

    Each of N processes takes every N-th image of a batch. Order and augmentation do not depend on N.

    Yields:
        indices int64 [batch], images float32 [batch, channels, height, width] and labels int64 [batch], on the device.
    """
    settings, device, normalization = state.settings, state.setup.device, state.classifier.normalization
    labels = torch.from_numpy(train_set.labels).long()
    shuffled_epoch = -1
    for step in range(state.step, state.total_steps):
        epoch, step_of_epoch = divmod(step, state.steps_per_epoch)
        if epoch > shuffled_epoch:
            generator = torch.Generator().manual_seed(derive_seed(settings.seed, ORDER, epoch))
            order = torch.randperm(len(train_set), generator=generator)
            augmentations = sample_augmentations(len(train_set), state.augmentation, generator)
            shuffled_epoch = epoch
        start = step_of_epoch * settings.batch_size
        indices = order[start : start + settings.batch_size][rank() :: world_size()]
        images = to_float(to_device(torch.from_numpy(train_set.images[indices.numpy()]), device))
        if not state.augmentation.is_identity:
            interpolation = state.augmentation.interpolation
            images = augment(images, augmentations[indices], normalization.mean, state.border, interpolation)
        images = normalize(images, normalization).contiguous(memory_format=torch.channels_last)
        yield to_device(indices, device), images, to_device(labels[indices], device)


def first_batch(state: TrainState, train_set: Dataset, count: int) -> dict[str, np.ndarray]:
    """Return the first `count` images of a training run from its start, as the network sees them, and their labels.

    Returns:
        images: uint8 [count or fewer, height, width] or [count or fewer, height, width, 3].
        labels: int64 [count or fewer].
    """
    _, images, labels = next(iterate_batches(state, train_set))
    pixels = to_uint8(images[:count], state.classifier.normalization)
    return {"images": pixels, "labels": labels[:count].cpu().numpy()}


def log_metrics(state: TrainState, validation_set: Dataset | None) -> Metrics:
    """Print and return the metrics since the last evaluation, and reset them.

    Training loss (without label smoothing) and accuracy are averages over the trained images, measured during their
    step. The main process also measures them on the validation images, in the precision of training, because on some
    processors bfloat16 takes half the time of float32. The learning rate is the value of the last step.

    Raises:
        PipelineError: a loss is NaN or infinite.
    """
    loss, correct, seen = all_reduce(state.running_metrics).tolist()
    state.running_metrics.zero_()
    epoch = state.step / state.steps_per_epoch
    lr = state.settings.learning_rate * state.lr_factor(state.step - 1)
    metrics = {"epoch": epoch, "learning_rate": lr, "train_loss": loss / seen, "train_accuracy": correct / seen}
    if validation_set and is_main_process():
        with state.setup.autocast():
            measured = evaluate(state.classifier, validation_set, state.setup.device)
        metrics |= {f"validation_{name}": value for name, value in measured.items()}
    text = "  ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())
    if is_main_process() and not all(map(math.isfinite, metrics.values())):  # the others lose their connection to it
        largest = state.settings.learning_rate
        raise PipelineError(
            f"training diverged with train.learning_rate {largest:g}: {text}",
            f"dvc exp run -S train.learning_rate={largest / 10:g}",
        )
    print(text, flush=True)
    return metrics


def evaluation_steps(state: TrainState) -> set[int]:
    """Return the steps after which the network is evaluated: `train.evaluations` or, if more, once per epoch."""
    count = max(state.settings.evaluations, math.ceil(state.settings.epochs))
    return {math.ceil(number * state.total_steps / count) for number in range(1, count + 1)}


def seed_random_layers(seed: int, device: torch.device) -> None:
    """Seed layers such as dropout. `torch.manual_seed` would also wait 0.4 ms for devices that are not in use."""
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)


@cache  # in a training step, computing it takes 0.1 ms
def derive_seed(*keys: int) -> int:
    """Return a 64-bit seed for (seed, use, epoch or rank): random numbers do not depend on earlier ones.

    Trailing zeros do not count, so equal uses need equally many keys.
    """
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0])
