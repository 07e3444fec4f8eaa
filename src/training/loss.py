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


def class_weights(counts: np.ndarray, exponent: float) -> Tensor:
    """Return the weight of each class in the loss, float32 [classes]. The mean over all training images is 1.

    Args:
        counts: training images per class.
        exponent: of the inverse frequency of a class: 0 weighs all images alike, 1 all classes.
    """
    inverse = np.maximum(counts, 1.0) ** -exponent
    return torch.from_numpy(inverse * counts.sum() / (counts @ inverse)).float()
