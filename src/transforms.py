"""Random image transformations for a whole batch at once, with the results of torchvision's, image by image."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from src.params import Augmentation, Normalize

CROP = 22 / 28  # of each side: the notebook's CenterCrop(22)


@dataclass(frozen=True)
class Transforms:
    """A transformation for each of n images: `cropped` bool [n], `matrix` float32 [n, 2, 3], pixels from the centre.

    `matrix` takes a point of the new image to the point of the old one that it shows.
    """

    cropped: Tensor
    matrix: Tensor

    def __getitem__(self, index: Tensor | slice) -> "Transforms":
        return Transforms(self.cropped[index], self.matrix[index])

    @property
    def only_shift(self) -> bool:
        """Whether no image is turned, scaled or sheared."""
        return bool((self.matrix[..., :2] == torch.eye(2, device=self.matrix.device)).all())

    def to(self, device: torch.device) -> "Transforms":
        return Transforms(self.cropped.to(device), self.matrix.to(device))


def draw_transforms(count: int, settings: Augmentation, generator: torch.Generator) -> Transforms:
    """Draw `count` transformations: each quantity uniform within its range, either way.

    The convention is that of torchvision's `affine`: rotation clockwise and shear in degrees, then scale, then shift;
    before them `hflip`, with the probability `flip`.
    """

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    cropped = torch.rand(count, generator=generator) < settings.center_crop
    angle, shear = torch.deg2rad(uniform(settings.rotation)), torch.deg2rad(uniform(settings.shear)).tan()
    scale, x, y = 1 + uniform(settings.scale), uniform(settings.shift), uniform(settings.shift)
    matrix = inverse_affine(angle, shear, scale, x, y)
    flipped = torch.rand(count, generator=generator) < settings.flip
    matrix[flipped, 0] *= -1
    return Transforms(cropped, matrix)


def inverse_affine(angle: Tensor, shear: Tensor, scale: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """The matrices [n, 2, 3] that undo: shear by tangent `shear`, rotate by `angle` radians, scale, shift in pixels."""
    cos, sin = angle.cos() / scale, angle.sin() / scale
    rows = [
        torch.stack([cos - sin * shear, sin + cos * shear], dim=1),
        torch.stack([-sin, cos], dim=1),
    ]
    linear = torch.stack(rows, dim=1)
    return torch.cat([linear, -linear @ torch.stack([x, y], dim=1)[..., None]], dim=2)


def transform(images: Tensor, transforms: Transforms, interpolation: str, size: tuple[int, int]) -> Tensor:
    """Transform float images [n, 1, height, width] and sample them at `size`; what comes from outside is 0."""
    height, width = images.shape[-2:]
    if transforms.cropped.any():
        images = torch.where(transforms.cropped[:, None, None, None], enlarge_center(images), images)
    if interpolation == "nearest" and size == (height, width) and transforms.only_shift:
        return shift_pixels(images, transforms.matrix[..., 2].round().long())
    pixels = images.new_tensor([width / 2, height / 2])  # in one unit of grid_sample, which goes from -1 to 1
    matrix = torch.cat([transforms.matrix[..., :2] * pixels, transforms.matrix[..., 2:]], dim=2) / pixels[:, None]
    grid = F.affine_grid(matrix, [len(images), 1, *size], align_corners=False)
    return F.grid_sample(images, grid, mode=interpolation, align_corners=False)


def shift_pixels(images: Tensor, offset: Tensor) -> Tensor:
    """Float images [n, 1, height, width], each seen `offset` int64 [n, 2] pixels to the right and below.

    What sampling at the nearest pixel gives, from windows on the images with a margin instead of a grid of points.
    """
    height, width = images.shape[-2:]
    margin = int(offset.abs().max())
    windows = F.pad(images, [margin] * 4).unfold(2, height, 1).unfold(3, width, 1)
    x, y = (offset + margin).T
    return windows[torch.arange(len(images), device=images.device), :, y, x]


def enlarge_center(images: Tensor) -> Tensor:
    """CenterCrop(22), then Resize(28), of float images [n, 1, 28, 28]; in proportion for other sizes."""
    height, width = images.shape[-2:]
    top, left = (round(side * (1 - CROP) / 2) for side in (height, width))
    return F.interpolate(images[..., top : height - top, left : width - left], size=(height, width), mode="bilinear")


def apply_mnist_image_transformations(
    images: Tensor,
    normalize: Normalize,
    transforms: Transforms | None = None,
    interpolation: str = "bilinear",
    size: tuple[int, int] | None = None,
) -> Tensor:
    """uint8 images [n, height, width] to normalised float32 [n, 1, *size], through `transforms` when training."""
    pixels = images.unsqueeze(1).float() / 255
    if transforms is not None:
        pixels = transform(pixels, transforms, interpolation, size or (images.shape[1], images.shape[2]))
    return (pixels - normalize.mean) / normalize.std
