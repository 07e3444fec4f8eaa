"""Calibrated probabilities: "96 % sure" means right 96 times out of 100."""

import torch
import torch.nn.functional as F
from torch import Tensor

from src.data.dataset import Dataset
from src.models.inference import Classifier, predict


def calibrate(classifier: Classifier, dataset: Dataset, device: torch.device) -> Tensor:
    """Fit the temperature of `classifier` to validation images. Without any, it stays 1.

    Returns:
        Log-probabilities at this temperature, float32 [n, classes].
    """
    if not len(dataset):
        return torch.zeros(0, len(dataset.classes))
    log_probabilities = predict(classifier, dataset.images, device)
    classifier.temperature = fit_temperature(log_probabilities, torch.from_numpy(dataset.labels).long())
    return F.log_softmax(log_probabilities / classifier.temperature, dim=1)


def fit_temperature(log_probabilities: Tensor, labels: Tensor) -> float:
    """Return the temperature that minimizes the loss on validation images: above 1 if they are too confident.

    Args:
        log_probabilities: float32 [n, classes], at temperature 1.
        labels: int64 [n].
    """
    scores = log_probabilities.double()
    # one more image of unknown class keeps the temperature above 0 if all predictions are right
    actual = (scores.gather(1, labels[:, None]).sum() + scores.mean()) / (len(labels) + 1)
    low, high = 0.05, 20.0  # the loss is convex in the inverse of the temperature
    for _ in range(40):
        inverse = (low + high) / 2
        expected = ((inverse * scores).softmax(dim=1) * scores).sum(dim=1).mean()
        low, high = (low, inverse) if expected > actual else (inverse, high)
    return round(1 / low, 3)
