"""The training loss."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def image_losses(output: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the cross-entropy of each image, float32 [batch].

    For `Net`, whose output are log-probabilities already, this is the negative log-likelihood.

    Args:
        output: logits or log-probabilities, float32 [batch, classes].
        labels: class indices, int64 [batch], or probabilities, float32 [batch, classes].
        label_smoothing: fraction of each label that is spread over all classes.
    """
    return F.cross_entropy(output, labels, label_smoothing=label_smoothing, reduction="none")


def label_margins(output: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far the output of each label is above the largest other output, and the class of that one.

    A wrong label contradicts similar images, and so its margin stays low during training. Source: Pleiss et al.,
    Identifying Mislabeled Data using the Area Under the Margin Ranking, 2020.

    Args:
        output: logits or log-probabilities, float32 [batch, classes].
        labels: class indices, int64 [batch].

    Returns:
        float32 [batch] and int64 [batch].
    """
    labels = labels[:, None]
    largest, rivals = output.scatter(1, labels, -torch.inf).max(dim=1)
    return output.gather(1, labels)[:, 0] - largest, rivals


def class_weights(counts: np.ndarray, exponent: float) -> Tensor:
    """Return the weight of each class in the loss, float32 [classes]. The mean over all training images is 1.

    Args:
        counts: training images per class.
        exponent: of the inverse frequency of a class: 0 weighs all images alike, 1 all classes.
    """
    inverse = np.maximum(counts, 1.0) ** -exponent
    return torch.from_numpy(inverse * counts.sum() / (counts @ inverse)).float()
