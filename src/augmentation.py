"""Augment batches of images. The results match torchvision's transforms."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from src.params.augmentation import AugmentationParams
from src.preprocessing import channel_values, to_device

CENTER_CROP = 22 / 28  # fraction of each side: the notebook's CenterCrop(22)
ERASED_AREA, ERASED_RATIO = (0.02, 0.33), (0.3, 3.3)  # fraction of the image, height / width: as in torchvision
GRAY_WEIGHTS = [0.2989, 0.587, 0.114]  # of red, green and blue: as in torchvision


@dataclass(frozen=True)
class SampledAugmentations:
    """One random augmentation per image, on the CPU: to decide on a GPU which of them to apply would wait for the GPU.

    Attributes:
        cropped: bool [batch], whether to crop the center first.
        matrix: float32 [batch, 2, 3], maps a point of the output to a point of the input, in pixels from the center.
        color: float32 [batch, 3], factors of brightness, contrast and saturation.
        erased: float32 [batch, 4], top, left, bottom and right of a rectangle, from 0 to 1; all 0 for none.
    """

    cropped: Tensor
    matrix: Tensor
    color: Tensor
    erased: Tensor

    def __getitem__(self, index: Tensor | slice) -> "SampledAugmentations":
        return SampledAugmentations(*(values[index] for values in vars(self).values()))


def sample_augmentations(count: int, settings: AugmentationParams, generator: torch.Generator) -> SampledAugmentations:
    """Sample `count` augmentations.

    Angles and shifts are uniform from -limit to limit, scale and color factors from 1 - limit to 1 + limit. Crop, flip
    and erasing each have a probability. The order is as in torchvision's `hflip` and then `affine`: flip, shear,
    rotate clockwise, scale, shift. Then follow brightness, contrast, saturation and erasing.
    """

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    cropped = torch.rand(count, generator=generator) < settings.center_crop_prob
    angle, shear = torch.deg2rad(uniform(settings.rotation)), torch.deg2rad(uniform(settings.shear)).tan()
    scale, x, y = 1 + uniform(settings.scale), uniform(settings.shift), uniform(settings.shift)
    matrix = inverse_affine(angle, shear, scale, x, y)
    flipped = torch.rand(count, generator=generator) < settings.flip_prob
    matrix[flipped, 0] *= -1
    limits = (settings.brightness, settings.contrast, settings.saturation)
    color = torch.stack([1 + uniform(limit) for limit in limits], dim=1)
    erased = sample_rectangles(count, settings.erasing_prob, generator)
    return SampledAugmentations(cropped, matrix, color, erased)


def sample_rectangles(count: int, probability: float, generator: torch.Generator) -> Tensor:
    """Sample rectangles to erase, float32 [count, 4]: top, left, bottom and right, from 0 to 1; all 0 for none.

    Source: Zhong et al., Random Erasing, 2017.
    """

    def between(low: float, high: float) -> Tensor:
        return low + torch.rand(count, generator=generator) * (high - low)

    area, ratio = between(*ERASED_AREA), between(*map(math.log, ERASED_RATIO)).exp()
    size = torch.stack([area * ratio, area / ratio], dim=1).sqrt().clamp(max=1)
    corner = torch.stack([between(0, 1), between(0, 1)], dim=1) * (1 - size)
    is_erased = torch.rand(count, generator=generator) < probability
    return torch.cat([corner, corner + size], dim=1) * is_erased[:, None]


def augment(
    images: Tensor,
    augmentations: SampledAugmentations,
    mean: Sequence[float],
    border: Sequence[float],
    interpolation: str,
) -> Tensor:
    """Augment images: with `normalize`, the notebook's `apply_mnist_image_transformations`.

    Args:
        images: float32 [batch, channels, height, width], from 0 to 1.
        augmentations: one per image, on the CPU.
        mean: the value of erased pixels, per channel.
        border: the value of pixels from outside the image, per channel.
    """
    outside = channel_values(border, images.device)  # warp fills with 0
    images = warp(images - outside, augmentations, interpolation) + outside
    if (augmentations.color != 1).any():
        images = adjust_color(images, to_device(augmentations.color, images.device))
    if augmentations.erased.any():
        images = erase(images, to_device(augmentations.erased, images.device), mean)
    return images


def inverse_affine(angle: Tensor, shear: Tensor, scale: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return matrices [batch, 2, 3], the inverse of: shear, rotate, scale, shift.

    Args:
        angle, shear, scale, x, y: radians, tangents, factors, pixels to the right and pixels down, [batch] each.
    """
    cos, sin = angle.cos() / scale, angle.sin() / scale
    linear = torch.stack([cos - sin * shear, sin + cos * shear, -sin, cos], dim=1).unflatten(1, (2, 2))
    return torch.cat([linear, -linear @ torch.stack([x, y], dim=1)[..., None]], dim=2)


def warp(images: Tensor, augmentations: SampledAugmentations, interpolation: str) -> Tensor:
    """Crop and transform images. Out-of-bounds pixels are 0.

    Args:
        images: float32 [batch, channels, height, width].
    """
    height, width = images.shape[-2:]
    cropped = augmentations.cropped
    if cropped.any():
        images = torch.where(to_device(cropped, images.device)[:, None, None, None], center_crop_resize(images), images)
    half_size = torch.tensor([width / 2, height / 2])  # pixels per unit of grid_sample, which spans -1 to 1
    matrix = to_device(augmentations.matrix / half_size[:, None], images.device)
    x, y = (torch.arange(side, device=images.device) - (side - 1) / 2 for side in (width, height))
    # faster than F.affine_grid, which multiplies each matrix with all points
    columns, rows = matrix[..., :1] * x, matrix[..., 1:2] * y + matrix[..., 2:]
    grid = columns[:, :, None] + rows[..., None]  # [batch, 2, height, width]
    return F.grid_sample(images, grid.permute(0, 2, 3, 1), mode=interpolation, align_corners=False)


def center_crop_resize(images: Tensor) -> Tensor:
    """Crop the center of float images [batch, channels, height, width] and resize it to the original size.

    For 28 x 28 pixels, this is torchvision's CenterCrop(22) and Resize(28).
    """
    height, width = images.shape[-2:]
    top, left = (round(side * (1 - CENTER_CROP) / 2) for side in (height, width))
    return F.interpolate(images[..., top : height - top, left : width - left], size=(height, width), mode="bilinear")


def adjust_color(images: Tensor, factors: Tensor) -> Tensor:
    """Change brightness, contrast and saturation of float images [batch, channels, height, width] from 0 to 1.

    Args:
        images: gray or RGB.
        factors: float32 [batch, 3]; 1 changes nothing.
    """

    def blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
        return (images * factor + other * (1 - factor)).clamp(0, 1)

    def gray(images: Tensor) -> Tensor:
        weights = GRAY_WEIGHTS if images.shape[1] == 3 else [1.0]
        return (images * channel_values(weights, images.device)).sum(dim=1, keepdim=True)

    brightness, contrast, saturation = factors.T[..., None, None, None]
    images = (images * brightness).clamp(0, 1)
    images = blend(images, gray(images).mean(dim=(2, 3), keepdim=True), contrast)
    return blend(images, gray(images), saturation)


def erase(images: Tensor, erased: Tensor, mean: Sequence[float]) -> Tensor:
    """Set a rectangle of each float image [batch, channels, height, width] to the mean of each channel.

    Args:
        erased: float32 [batch, 4], top, left, bottom and right, from 0 to 1.
    """
    height, width = images.shape[-2:]
    rows, columns = ((torch.arange(side, device=images.device) + 0.5) / side for side in (height, width))
    top, left, bottom, right = erased.T[..., None]
    inside_rows, inside_columns = (rows > top) & (rows < bottom), (columns > left) & (columns < right)
    inside = (inside_rows[:, :, None] & inside_columns[:, None, :])[:, None]
    return torch.where(inside, channel_values(mean, images.device), images)
