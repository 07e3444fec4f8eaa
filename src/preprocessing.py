"""Convert batches of images to normalized floats."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from src.data.dataset import Images, pixel_statistics


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each channel, for pixels from 0 to 1."""

    mean: list[float]
    std: list[float]


IMAGENET = Normalization([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # expected by torchvision's pretrained weights


def to_float(images: Tensor) -> Tensor:
    """Convert uint8 [batch, height, width] or [batch, height, width, 3] to float32 [batch, channels, ...], 0 to 1."""
    planes = images.unsqueeze(1) if images.ndim == 3 else images.permute(0, 3, 1, 2)
    return planes.float() / 255


def normalize(pixels: Tensor, stats: Normalization) -> Tensor:
    """Subtract the mean of each channel and divide by its standard deviation.

    Args:
        pixels: float32 [batch, channels, height, width], from 0 to 1.
    """
    mean, std = (channel_values(numbers, pixels.device) for numbers in (stats.mean, stats.std))
    return (pixels - mean) / std


def to_uint8(images: Tensor, stats: Normalization) -> np.ndarray:
    """Undo `normalize` and `to_float`: return uint8 [batch, height, width] or [batch, height, width, 3].

    Args:
        images: normalized, float32 [batch, channels, height, width].
    """
    mean, std = (channel_values(numbers, images.device) for numbers in (stats.mean, stats.std))
    pixels = ((images * std + mean).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu()
    return (pixels[..., 0] if pixels.shape[3] == 1 else pixels).contiguous().numpy()


def channel_values(numbers: Sequence[float], device: torch.device) -> Tensor:
    """Return one number per channel, float32 [channels, 1, 1]."""
    return to_device(torch.tensor(numbers)[:, None, None], device)


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor from the CPU to `device`, on CUDA without waiting for the work that is queued there."""
    return values.to(device, non_blocking=device.type == "cuda")


def measure_border(images: Images) -> list[float]:
    """Return the usual color of the border, from 0 to 1 per channel: the median of the outermost pixels.

    Args:
        images: uint8 [n, height, width] or [n, height, width, 3]. At most 1,000 of them are used.
    """
    some = (images[index] for index in np.linspace(0, len(images) - 1, min(len(images), 1000)).astype(int))
    pixels = np.concatenate([edge for image in some for edge in (image[0], image[-1], image[:, 0], image[:, -1])])
    return [float(value) / 255 for value in np.atleast_1d(np.median(pixels, axis=0))]


def measure_normalization(images: Images) -> Normalization:
    """Return the mean and standard deviation of each channel, with four digits.

    Args:
        images: uint8 [n, height, width] or [n, height, width, 3].
    """
    mean, std = pixel_statistics(images)
    # a channel that is the same everywhere has no deviation to divide by
    return Normalization(mean=[round(value, 4) for value in mean], std=[round(value, 4) or 1.0 for value in std])
