"""The training loss."""

import math

import numpy as np
import pytest
import torch

from src.training.loss import LabelMargins, class_weights, image_losses

OUTPUT = torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 1.0]])


def test_loss_of_each_image_is_its_negative_log_likelihood() -> None:
    expected = -OUTPUT.log_softmax(dim=1)[[0, 1], [0, 2]]
    assert torch.allclose(image_losses(OUTPUT, torch.tensor([0, 2]), label_smoothing=0), expected)


def test_label_smoothing_equals_labels_of_several_classes() -> None:
    """A smoothing of 0.3 spreads 0.1 over each of three classes."""
    labels = torch.tensor([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8]])
    smooth = image_losses(OUTPUT, torch.tensor([0, 2]), label_smoothing=0.3)
    assert torch.allclose(smooth, image_losses(OUTPUT, labels, label_smoothing=0))
    assert torch.allclose(smooth, -(labels * OUTPUT.log_softmax(dim=1)).sum(dim=1))


def test_margin_is_the_distance_to_the_largest_other_output() -> None:
    margins = LabelMargins(3, 3, torch.device("cpu"))
    margins.add(torch.tensor([0, 2]), OUTPUT, torch.tensor([0, 2]), step=1)
    margins.add(torch.tensor([2, 0]), OUTPUT, torch.tensor([1, 0]), step=2)
    means, rivals = margins.mean()
    assert means.tolist() == [(2 - 3) / 2, pytest.approx(math.nan, nan_ok=True), (-2 - 2) / 2]
    assert rivals.tolist()[::2] == [1, 0]


def test_class_weights_raise_rare_classes_and_have_a_mean_of_1() -> None:
    counts = np.array([90, 10])
    assert class_weights(counts, 0).tolist() == [1, 1]
    whole = class_weights(counts, 1).double().numpy()
    assert whole * counts == pytest.approx([50, 50])
    half = class_weights(counts, 0.5).double().numpy()
    assert half[1] / half[0] == pytest.approx(3)
    assert half @ counts == pytest.approx(100)
