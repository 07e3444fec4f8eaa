"""Temperature and tables of predictions."""

import pytest
import torch
import torch.nn.functional as F

from src.models.calibration import fit_temperature


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
