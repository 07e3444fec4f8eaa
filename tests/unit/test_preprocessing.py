"""Conversion to normalized floats."""

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as torchvision

from src.preprocessing import Normalization, measure_border, measure_normalization, normalize, to_float, to_uint8

COLOR = Normalization(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])


@pytest.mark.parametrize(("channels", "values"), [(1, Normalization(mean=[0.1307], std=[0.3081])), (3, COLOR)])
def test_normalization_equals_torchvisions(channels: int, values: Normalization) -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 20, 24, channels), np.uint8)
    expected = torch.stack([torchvision.normalize(torchvision.to_tensor(x), values.mean, values.std) for x in images])
    gray_or_color = torch.from_numpy(images.squeeze(axis=3) if channels == 1 else images)
    normalized = normalize(to_float(gray_or_color), values)
    assert torch.allclose(normalized, expected, atol=1e-6)
    assert (to_uint8(normalized, values) == gray_or_color.numpy()).all()


@pytest.mark.parametrize("shape", [(50, 20, 24), (50, 20, 24, 3)])
def test_measured_normalization_equals_numpys(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 200, shape, np.uint8)
    channels = images.reshape(-1, shape[3] if len(shape) == 4 else 1) / 255
    measured = measure_normalization(images)
    assert measured.mean == channels.mean(axis=0).round(4).tolist()
    assert measured.std == channels.std(axis=0).round(4).tolist()


def test_channel_without_variation_is_not_scaled() -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)
    images[..., 1] = 255
    assert measure_normalization(images) == Normalization(mean=[0.0, 1.0, 0.0], std=[1.0, 1.0, 1.0])


def test_border_is_the_median_of_the_outermost_pixels() -> None:
    images = np.zeros((3, 8, 8, 3), np.uint8)
    images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1] = 4 * [[255, 51, 0]]
    images[0, 0, 0] = 9
    assert measure_border(images) == [1, 0.2, 0]
    assert measure_border(images[..., 0]) == [1]
