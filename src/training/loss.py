"""The training loss."""

import torch.nn.functional as F
from torch import Tensor


def image_losses(output: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Return the cross-entropy of each image, float32 [batch].

    For `Net`, whose output are log-probabilities already, this is the negative log-likelihood.

    Args:
        output: logits or log-probabilities, float32 [batch, classes].
        labels: class indices, int64 [batch], or probabilities of mixed images, float32 [batch, classes].
        label_smoothing: fraction of each label that is spread over all classes.
    """
    return F.cross_entropy(output, labels, label_smoothing=label_smoothing, reduction="none")
