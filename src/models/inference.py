"""Inference and evaluation, in float32 outside of autocast."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from src.data.dataset import Dataset
from src.params import Normalize
from src.transforms import preprocess

EVALUATION_BATCH = 500  # images; fixed, because a different size may change the last bits
EVALUATION_PIXELS = 2_500_000  # per batch, at most: 49 images of 224 x 224, with which resnet50 takes 1 GB


@torch.no_grad()
def predict(net: nn.Module, images: np.ndarray, normalize: Normalize, device: torch.device) -> Tensor:
    """Return log-probabilities, float32 [n, classes] on the CPU.

    Args:
        net: a network on `device`.
        images: uint8 [n, height, width] or [n, height, width, 3].
        normalize: mean and standard deviation of the pixels that the network was trained with.
        device: where to compute.
    """
    net.eval()
    size = batch_size(images)
    outputs = []
    for start in tqdm(range(0, len(images), size), "evaluating", leave=False, disable=None):
        batch = torch.from_numpy(images[start : start + size]).to(device)
        outputs.append(F.log_softmax(net(preprocess(batch, normalize)).float(), dim=1).cpu())
    return torch.cat(outputs)


def batch_size(images: np.ndarray) -> int:
    """Return the number of images of this size that are evaluated at a time."""
    pixels: int = images.shape[1] * images.shape[2]
    return max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // pixels))


def evaluate(net: nn.Module, dataset: Dataset, normalize: Normalize, device: torch.device) -> tuple[float, float]:
    """Return the mean loss and the accuracy (0 to 1) on a data set."""
    log_probabilities = predict(net, dataset.images, normalize, device)
    labels = torch.from_numpy(dataset.labels).long()
    loss = F.nll_loss(log_probabilities, labels).item()
    return loss, get_correct_prediction_count(log_probabilities, labels) / len(labels)


def get_correct_prediction_count(outputs: Tensor, labels: Tensor) -> int:
    """Count the rows of float [batch, classes] whose argmax equals the label, int64 [batch]."""
    return int((outputs.argmax(dim=1) == labels).sum().item())
