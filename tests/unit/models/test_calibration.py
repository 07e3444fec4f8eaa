"""Temperature and tables of predictions."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from src.data.dataset import Dataset
from src.models.calibration import fit_temperature, predictions_table
from tests.helpers import random_dataset


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_of_samples_is_found(temperature: float) -> None:
    """Labels are drawn from the probabilities of logits; the model states them at another temperature."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(20_000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(dim=1), 1, generator=generator)[:, 0]
    stated = F.log_softmax(logits * temperature, dim=1)
    assert fit_temperature(stated, labels) == pytest.approx(temperature, rel=0.03)


def test_temperature_stays_above_zero_if_all_predictions_are_right() -> None:
    outputs = F.log_softmax(torch.eye(4) * 8, dim=1)
    assert 0.2 < fit_temperature(outputs, torch.arange(4)) < 5


def test_table_has_the_probability_of_the_given_class() -> None:
    dataset = Dataset(random_dataset(2).images, np.array([1, 0], np.uint8), ("a", "b"), files=("b/1.png", "a/1.png"))
    table = predictions_table(dataset, torch.tensor([[0.25, 0.75], [0.25, 0.75]]).log(), np.array([4, 9]))
    assert {name: list(column) for name, column in table.items()} == {
        "index": [4, 9],
        "actual": ["b", "a"],
        "predicted": ["b", "b"],
        "confidence": [0.75, 0.75],
        "probability": [0.75, 0.25],
        "file": ["b/1.png", "a/1.png"],
    }
