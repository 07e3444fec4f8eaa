"""Occlusion finds the part of an image that a network looks at."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from src.models.explain import GRID, occlusion
from src.models.inference import Classifier
from src.params import Normalize
from src.registry import create_model

CPU = torch.device("cpu")


class Corner(nn.Module):
    """Answers class 1 if the top left quarter of the image is brighter than the mean."""

    def forward(self, images: Tensor) -> Tensor:
        _, _, height, width = images.shape
        score = images[:, :, : height // 4, : width // 4].mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], dim=1)


def plain(net: nn.Module, normalize: Normalize) -> Classifier:
    return Classifier(net, normalize, test_time_augmentation=False)


@pytest.mark.parametrize("shape", [(2, 28, 28), (2, 30, 50), (2, 64, 64, 3)])
def test_probability_drops_where_the_network_looks(shape: tuple[int, ...]) -> None:
    images = np.full(shape, 200, np.uint8)
    channels = 3 if len(shape) == 4 else 1
    normalize = Normalize(mean=[0.2] * channels, std=[0.25] * channels)
    heat = occlusion(plain(Corner(), normalize), images, np.array([1, 0]), CPU)
    assert heat.shape == (2, GRID, GRID)
    assert np.unravel_index(heat[0].argmax(), (GRID, GRID)) in [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert heat[0].max() > 0.05
    assert heat[0, 3:].max() == heat[0, :, 3:].max() == 0
    assert heat[1] == pytest.approx(-heat[0], abs=1e-6)  # with two classes, one gains what the other loses


def test_images_stay_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (1, 16, 16), np.uint8)
    before = images.copy()
    occlusion(plain(Corner(), Normalize(mean=[0.5], std=[0.25])), images, np.array([1]), CPU)
    assert (images == before).all()


def test_no_images_give_no_heat() -> None:
    heat = occlusion(
        plain(Corner(), Normalize(mean=[0.5], std=[1])), np.zeros((0, 8, 8), np.uint8), np.zeros(0, int), CPU
    )
    assert heat.shape == (0, GRID, GRID)


def test_transformers_are_explained() -> None:
    net = create_model("vit_b_32", 3, (3, 32, 32))
    images = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    heat = occlusion(plain(net, Normalize(mean=[0.5] * 3, std=[0.25] * 3)), images, np.array([2]), CPU)
    assert np.isfinite(heat).all()
