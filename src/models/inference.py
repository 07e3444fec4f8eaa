"""Inference and evaluation, in float32 outside of autocast."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from src.data.dataset import Dataset, Images
from src.preprocessing import Normalization, normalize, to_float

EVALUATION_BATCH = 500  # images; fixed, because a different size may change the last bits
EVALUATION_PIXELS = 2_500_000  # per batch, at most: 49 images of 224 x 224, with which resnet50 takes 1 GB
CLOSE = 1.5  # nats: the second class is more than a fifth as probable as the first, as for 1 % of MNIST


class Classifier(nn.Module):
    """A network with normalization before it and log-softmax after it.

    The temperature, fitted to validation images, makes its probabilities match its accuracy. Source: Guo et al., On
    Calibration of Modern Neural Networks, 2017.

    With test-time augmentation, the probabilities of a close prediction are the mean over the image and its copies.
    Source: Krizhevsky et al., ImageNet Classification with Deep Convolutional Neural Networks, 2012.

    Args:
        net: maps normalized images to logits or log-probabilities.
        normalization: mean and standard deviation of the pixels that the network was trained with.
        test_time_augmentation: "shift" (four copies, shifted by one pixel), "mirror" (these, the mirror image and
            its four shifted copies; for networks that were trained with `flip_prob`) or "none".
    """

    def __init__(
        self, net: nn.Module, normalization: Normalization, test_time_augmentation: str, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.net, self.normalization, self.test_time_augmentation = net, normalization, test_time_augmentation

    def forward(self, images: Tensor) -> Tensor:
        """Return log-probabilities, float32 [batch, classes].

        Args:
            images: uint8 [batch, height, width] or [batch, height, width, 3].
        """
        output = self.log_probabilities(images)
        if self.test_time_augmentation != "none":
            first, second = output.topk(2, dim=1).values.T
            is_close = first - second < CLOSE
            if torch.compiler.is_exporting():  # an exported program has fixed shapes: it computes all copies
                output = torch.where(is_close[:, None], self.mean_over_copies(output, images), output)
            elif is_close.any():
                output[is_close] = self.mean_over_copies(output[is_close], images[is_close])
        return F.log_softmax(output / self.temperature, dim=1)

    def log_probabilities(self, images: Tensor) -> Tensor:
        """Return log-probabilities at temperature 1, from the images as they are."""
        return F.log_softmax(self.net(normalize(to_float(images), self.normalization)).float(), dim=1)

    def mean_over_copies(self, output: Tensor, images: Tensor) -> Tensor:
        """Average the probabilities of images, whose log-probabilities are `output`, with those of their copies."""
        copies = shift_four_ways(images)
        if self.test_time_augmentation == "mirror":
            copies += [copy.flip(2) for copy in (images, *copies)]
        outputs = [output, *map(self.log_probabilities, copies)]
        return torch.stack(outputs).logsumexp(dim=0) - math.log(len(outputs))


def shift_four_ways(images: Tensor) -> list[Tensor]:
    """Return four copies of a batch, each shifted by one pixel: up, down, left, right. The edge is repeated.

    Args:
        images: uint8 [batch, height, width] or [batch, height, width, 3].

    Returns:
        Tensors of the same shape and dtype.
    """
    copies = []
    for axis in (1, 2):
        positions = torch.arange(images.shape[axis], device=images.device)
        copies += [images.index_select(axis, (positions + by).clamp(0, len(positions) - 1)) for by in (1, -1)]
    return copies


@torch.no_grad()
def predict(classifier: Classifier, images: Images, device: torch.device) -> Tensor:
    """Return log-probabilities, float32 [n, classes] on the CPU.

    Args:
        images: uint8 [n, height, width] or [n, height, width, 3].
    """
    classifier.eval()
    size = evaluation_batch_size(*images.shape[1:3])
    starts = tqdm(range(0, len(images), size), "evaluating", leave=False, disable=None)
    batches = (torch.from_numpy(images[start : start + size]) for start in starts)
    return torch.cat([classifier(batch.to(device)).cpu() for batch in batches])


def evaluation_batch_size(height: int, width: int) -> int:
    """Return how many images of this size are evaluated at a time."""
    return max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // (height * width)))


def evaluate(classifier: Classifier, dataset: Dataset, device: torch.device) -> dict[str, float]:
    """Return `loss`, `accuracy` and `balanced_accuracy` (the mean over classes) on a data set."""
    log_probabilities = predict(classifier, dataset.images, device)
    labels = torch.from_numpy(dataset.labels).long()
    right = labels[log_probabilities.argmax(dim=1) == labels].bincount(minlength=len(dataset.classes))
    counts = labels.bincount(minlength=len(dataset.classes))
    return {
        "loss": F.nll_loss(log_probabilities, labels).item(),
        "accuracy": get_correct_prediction_count(log_probabilities, labels) / len(labels),
        "balanced_accuracy": (right / counts)[counts > 0].mean().item(),
    }


def get_correct_prediction_count(outputs: Tensor, labels: Tensor) -> int:
    """Count the rows of float [batch, classes] whose argmax equals the label, int64 [batch]."""
    return int((outputs.argmax(dim=1) == labels).sum().item())
