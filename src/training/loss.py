"""The training loss, and the margin of each label."""

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from src.training.distributed import all_reduce


def image_losses(output: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the cross-entropy of each image, float32 [batch].

    For `Net`, whose output are log-probabilities already, this is the negative log-likelihood.

    Args:
        output: logits or log-probabilities, float32 [batch, classes].
        labels: class indices, int64 [batch], or probabilities, float32 [batch, classes].
    """
    return F.cross_entropy(output, labels, label_smoothing=label_smoothing, reduction="none")


def class_weights(counts: np.ndarray, exponent: float) -> Tensor:
    """Return the weight of each class in the loss, float32 [classes]. The mean over all training images is 1.

    Args:
        exponent: of the inverse frequency of a class: 0 weighs all images alike, 1 all classes.
    """
    inverse = np.maximum(counts, 1.0) ** -exponent
    return torch.from_numpy(inverse * counts.sum() / (counts @ inverse)).float()


class LabelMargins:
    """How far the output of each training label was above the largest other output, on average over training.

    A wrong label contradicts similar images, so its margin stays low. Source: Pleiss et al., Identifying Mislabeled
    Data using the Area Under the Margin Ranking, 2020.

    Attributes:
        sums: sum of the margins of each image, and number of its steps, float64 [2, n] (float32 on mps).
        rivals: class with the largest other output in the last step of each image, int64 [n]. The number of the step is
            added as step * num_classes, so that the maximum over several processes is the last one.
    """

    def __init__(self, num_images: int, num_classes: int, device: torch.device) -> None:
        dtype = torch.float32 if device.type == "mps" else torch.float64
        self.num_classes = num_classes
        self.sums = torch.zeros(2, num_images, dtype=dtype, device=device)
        self.rivals = torch.zeros(num_images, dtype=torch.int64, device=device)

    def add(self, indices: Tensor, output: Tensor, labels: Tensor, step: int) -> None:
        """Record the margins of a batch.

        Args:
            indices: int64 [batch], the numbers of the images in the training set.
            output: logits or log-probabilities, float32 [batch, classes].
            labels: class indices, int64 [batch].
        """
        labels = labels[:, None]
        largest, rivals = output.scatter(1, labels, -torch.inf).max(dim=1)
        margins = output.gather(1, labels)[:, 0] - largest
        self.sums[:, indices] += torch.stack([margins, torch.ones_like(margins)]).to(self.sums.dtype)
        self.rivals[indices] = step * self.num_classes + rivals

    def mean(self) -> tuple[Tensor, Tensor]:
        """Return the mean margin of each image (NaN without a step) and its last rival, int64: [n] each, on the CPU.

        All processes have to call it.
        """
        sums, steps = all_reduce(self.sums).cpu()
        return sums / steps, all_reduce(self.rivals, dist.ReduceOp.MAX).cpu() % self.num_classes
