"""Margins and class weights."""

import math

import numpy as np
import pytest
import torch

from src.training.state import LabelMargins, class_weights

OUTPUT = torch.tensor([[2.0, 0.0, 0.0], [0.0, 3.0, 1.0]])


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
