"""Occlusion finds the part of an image that a network looks at."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.evaluation.explain import GRID, occlusion
from src.models.inference import Classifier
from src.params.normalize import Normalize


class Corner(nn.Module):
    """Answers class 1 if the top left quarter of the image is brighter than the mean."""

    def forward(self, images: Tensor) -> Tensor:
        _, _, height, width = images.shape
        score = images[:, :, : height // 4, : width // 4].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], dim=1)


@pytest.mark.parametrize("shape", [(2, 28, 28), (2, 30, 50), (2, 64, 64, 3)])
def test_probability_drops_where_the_network_looks(shape: tuple[int, ...]) -> None:
    images = np.full(shape, 200, np.uint8)
    channels = 3 if len(shape) == 4 else 1
    classifier = Classifier(Corner(), Normalize(mean=[0.2] * channels, std=[0.25] * channels), False)
    heat = occlusion(classifier, images, np.array([1, 0]), torch.device("cpu"))
    assert heat.shape == (2, GRID, GRID)
    assert np.unravel_index(heat[0].argmax(), (GRID, GRID)) in [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert heat[0].max() > 0.05
    assert heat[0, 3:].max() == heat[0, :, 3:].max() == 0
    assert heat[1] == pytest.approx(-heat[0], abs=1e-6)  # with two classes, one gains what the other loses
    assert (images == 200).all()
