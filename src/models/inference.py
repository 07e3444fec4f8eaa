"""Evaluation: whole batches at a time, always in float32."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.data.dataset import Dataset
from src.params import Normalize
from src.transforms import apply_mnist_image_transformations

EVALUATION_BATCH = 500  # images; fixed, since another size could change the last bits


def test(net: nn.Module, dataset: Dataset, normalize: Normalize, device: torch.device) -> tuple[float, float]:
    """One epoch of evaluation: the mean loss and the accuracy over all images of `dataset`."""
    log_probabilities = predict(net, dataset, normalize, device)
    labels = torch.from_numpy(dataset.labels).long()
    return (
        F.nll_loss(log_probabilities, labels).item(),
        get_correct_prediction_count(log_probabilities, labels) / len(labels),
    )


@torch.no_grad()
def predict(net: nn.Module, dataset: Dataset, normalize: Normalize, device: torch.device) -> Tensor:
    """Log-probabilities, float32 [n, classes] on the CPU, always computed in float32."""
    net.eval()
    images = torch.tensor(dataset.images, device=device)
    return torch.cat(
        [net(apply_mnist_image_transformations(batch, normalize)).cpu() for batch in images.split(EVALUATION_BATCH)]
    )


def get_correct_prediction_count(log_probabilities: Tensor, labels: Tensor) -> int:
    """How many rows of [n, classes] have their largest value at the label [n]."""
    return int((log_probabilities.argmax(dim=1) == labels).sum().item())


def to_device(dataset: Dataset, device: torch.device) -> tuple[Tensor, Tensor]:
    """uint8 images [n, height, width] and int64 labels [n]."""
    return torch.tensor(dataset.images, device=device), torch.tensor(dataset.labels, device=device).long()
