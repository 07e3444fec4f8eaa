"""Preprocess batches of images, and augment each image at random. The results match torchvision's transforms."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from src.params import Augmentation, Normalize

CENTER_CROP = 22 / 28  # share of each side: the notebook's CenterCrop(22)


@dataclass(frozen=True)
class AffineBatch:
    """One random transformation per image.

    Attributes:
        cropped: bool [batch], whether to crop the center first.
        matrix: float32 [batch, 2, 3], maps a point of the output to a point of the input, in pixels from the center.
    """

    cropped: Tensor
    matrix: Tensor

    def __getitem__(self, index: Tensor | slice) -> "AffineBatch":
        return AffineBatch(self.cropped[index], self.matrix[index])

    @property
    def is_shift(self) -> bool:
        """Whether all transformations only shift the image."""
        return bool((self.matrix[..., :2] == torch.eye(2, device=self.matrix.device)).all())

    def to(self, device: torch.device) -> "AffineBatch":
        return AffineBatch(self.cropped.to(device), self.matrix.to(device))


def sample_affine(count: int, settings: Augmentation, generator: torch.Generator) -> AffineBatch:
    """Sample `count` transformations.

    Angles, scale and shifts are uniform from -limit to +limit. Crop and flip happen with a probability. The order is
    that of torchvision's `affine` after `hflip`: flip, shear, rotate clockwise, scale, shift.
    """

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    cropped = torch.rand(count, generator=generator) < settings.center_crop
    angle, shear = torch.deg2rad(uniform(settings.rotation)), torch.deg2rad(uniform(settings.shear)).tan()
    scale, x, y = 1 + uniform(settings.scale), uniform(settings.shift), uniform(settings.shift)
    matrix = inverse_affine(angle, shear, scale, x, y)
    flipped = torch.rand(count, generator=generator) < settings.flip
    matrix[flipped, 0] *= -1
    return AffineBatch(cropped, matrix)


def inverse_affine(angle: Tensor, shear: Tensor, scale: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the inverse of: shear, rotate, scale, shift.

    Args:
        angle: radians [batch].
        shear: tangents [batch].
        scale: factors [batch].
        x: pixels to the right [batch].
        y: pixels down [batch].

    Returns:
        Matrices [batch, 2, 3].
    """
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rows = [
        torch.stack([cos - sin * shear, sin + cos * shear], dim=1),
        torch.stack([-sin, cos], dim=1),
    ]
    linear = torch.stack(rows, dim=1)
    return torch.cat([linear, -linear @ torch.stack([x, y], dim=1)[..., None]], dim=2)


def warp(images: Tensor, affine: AffineBatch, interpolation: str, size: tuple[int, int]) -> Tensor:
    """Transform float images [batch, 1, height, width] and resample them to `size`. Out-of-bounds pixels are 0.

    Args:
        images: float32 [batch, 1, height, width].
        affine: one transformation per image.
        interpolation: "nearest" or "bilinear".
        size: height and width of the result.
    """
    height, width = images.shape[-2:]
    if affine.cropped.any():
        images = torch.where(affine.cropped[:, None, None, None], center_crop_resize(images), images)
    if interpolation == "nearest" and size == (height, width) and affine.is_shift:
        return shift_pixels(images, affine.matrix[..., 2].round().long())
    half_size = images.new_tensor([width / 2, height / 2])  # pixels per unit of grid_sample, which spans -1 to 1
    matrix = torch.cat([affine.matrix[..., :2] * half_size, affine.matrix[..., 2:]], dim=2) / half_size[:, None]
    grid = F.affine_grid(matrix, [len(images), 1, *size], align_corners=False)
    return F.grid_sample(images, grid, mode=interpolation, align_corners=False)


def shift_pixels(images: Tensor, offset: Tensor) -> Tensor:
    """Shift float images [batch, 1, height, width] left and up by `offset` int64 [batch, 2] pixels (x, y).

    Views of padded images take 0.06 ms per batch of 128, a sampling grid 0.36 ms.
    """
    height, width = images.shape[-2:]
    margin = int(offset.abs().max())
    windows = F.pad(images, [margin] * 4).unfold(2, height, 1).unfold(3, width, 1)
    x, y = (offset + margin).T
    return windows[torch.arange(len(images), device=images.device), :, y, x]


def center_crop_resize(images: Tensor) -> Tensor:
    """Crop the center of float images [batch, 1, height, width] and resize it to the original size.

    For 28 x 28 pixels, this is torchvision's CenterCrop(22) and Resize(28).
    """
    height, width = images.shape[-2:]
    top, left = (round(side * (1 - CENTER_CROP) / 2) for side in (height, width))
    return F.interpolate(images[..., top : height - top, left : width - left], size=(height, width), mode="bilinear")


def preprocess(
    images: Tensor,
    normalize: Normalize,
    affine: AffineBatch | None = None,
    interpolation: str = "bilinear",
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Augment and normalize images: the notebook's `apply_mnist_image_transformations`.

    Args:
        images: uint8 [batch, height, width].
        normalize: mean and standard deviation of pixels from 0 to 1.
        affine: the augmentation, or None.
        interpolation: "nearest" or "bilinear".
        size: height and width of the augmented images; by default those of the images. Needs `affine`.

    Returns:
        float32 [batch, 1, *size].

    Raises:
        ValueError: there is a `size`, but no `affine`.
    """
    pixels = images.unsqueeze(1).float() / 255
    if affine is not None:
        pixels = warp(pixels, affine, interpolation, size or (images.shape[1], images.shape[2]))
    elif size is not None:
        raise ValueError("size needs affine, because only warp resizes")
    return (pixels - normalize.mean) / normalize.std
