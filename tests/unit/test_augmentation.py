"""Batched augmentation equals torchvision's transforms, image by image."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomErasing
from torchvision.transforms import functional as torchvision
from torchvision.transforms.v2 import functional as v2

from src.augmentation import (
    SampledAugmentations,
    adjust_color,
    augment,
    center_crop_resize,
    erase,
    inverse_affine,
    sample_augmentations,
    warp,
)
from src.params.augmentation import AugmentationParams

OFF = dict.fromkeys(AugmentationParams.model_fields, 0.0) | {"interpolation": "bilinear"}
COLORS = ["brightness", "contrast", "saturation"]
MODES = {"nearest": InterpolationMode.NEAREST, "bilinear": InterpolationMode.BILINEAR}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    """24 smooth float images [24, 1, 28, 28] from 0 to 1."""
    rough = torch.rand(24, 1, 9, 9, generator=seeded())
    return torch.nn.functional.interpolate(rough, size=(28, 28), mode="bilinear")


@pytest.fixture
def color_images() -> Tensor:
    """24 float images [24, 3, 28, 28] from 0 to 1."""
    return torch.rand(24, 3, 28, 28, generator=seeded())


def sample(count: int, **changes: float) -> SampledAugmentations:
    return sample_augmentations(count, AugmentationParams(**{**OFF, **changes}), seeded())


def geometry(matrix: Tensor, cropped: Tensor | None = None) -> SampledAugmentations:
    """Return augmentations that move pixels and leave their values."""
    cropped = torch.zeros(24, dtype=torch.bool) if cropped is None else cropped
    return SampledAugmentations(cropped, matrix, torch.ones(24, 3), torch.zeros(24, 4))


@pytest.mark.parametrize("mode", MODES)
def test_warp_equals_torchvisions_affine(images: Tensor, mode: str) -> None:
    """Rotation, shear, scale and shift, with their signs and their order."""
    generator = seeded(1)
    angle, shear = ((torch.rand(24, generator=generator) - 0.5) * limit for limit in (30.0, 20.0))
    scale = 1 + (torch.rand(24, generator=generator) - 0.5) * 0.4
    x, y = (torch.randint(-3, 4, (24,), generator=generator).float() for _ in range(2))
    ours = warp(images, geometry(inverse_affine(angle.deg2rad(), shear.deg2rad().tan(), scale, x, y)), mode)
    arguments = zip(images, *(values.tolist() for values in (angle, x, y, scale, shear)), strict=True)
    theirs = [torchvision.affine(image, a, [x, y], s, [h, 0.0], MODES[mode]) for image, a, x, y, s, h in arguments]
    near = (ours - torch.stack(theirs)).abs() < 1e-3
    assert near.float().mean() > (0.999 if mode == "bilinear" else 0.99)  # nearest: a tie may go either way


def test_nearest_shift_equals_torchvision_exactly(images: Tensor) -> None:
    """Up to 3 whole pixels each way, after the center crop of every second image."""
    x, y = (torch.randint(-3, 4, (24,), generator=seeded(seed)).float() for seed in (1, 2))
    zero, cropped = torch.zeros(24), torch.arange(24) % 2 == 0
    shifted = geometry(inverse_affine(zero, zero, zero + 1, x + 0.2, y - 0.2), cropped)
    inputs = torch.where(cropped[:, None, None, None], center_crop_resize(images), images)
    arguments = zip(inputs, x.tolist(), y.tolist(), strict=True)
    theirs = [torchvision.affine(image, 0.0, [x, y], 1.0, [0.0, 0.0], MODES["nearest"]) for image, x, y in arguments]
    assert torch.equal(warp(images, shifted, "nearest"), torch.stack(theirs))


def test_center_crop_resize_equals_the_notebooks_crop_and_resize(images: Tensor) -> None:
    """CenterCrop(22), then Resize(28)."""
    theirs = torchvision.resize(torchvision.center_crop(images, [22, 22]), [28, 28], antialias=False)
    assert torch.allclose(center_crop_resize(images), theirs, atol=1e-6)


def test_flip_equals_torchvisions_hflip(images: Tensor) -> None:
    """All other random numbers are those without flips."""
    straight, mixed = (sample(24, rotation=10.0, shift=2.0, flip_prob=flip) for flip in (0.0, 0.5))
    flipped = (straight.matrix != mixed.matrix).flatten(1).any(dim=1)
    mirrored = torch.where(flipped[:, None, None, None], torchvision.hflip(images), images)
    assert torch.allclose(warp(images, mixed, "bilinear"), warp(mirrored, straight, "bilinear"), atol=1e-5)


def test_crop_flip_and_erasing_happen_with_their_probabilities() -> None:
    """A tenth, a quarter and a half of 20,000 images, within five standard deviations."""
    sampled = sample(20_000, center_crop_prob=0.1, flip_prob=0.25, erasing_prob=0.5)
    changed = {0.1: sampled.cropped, 0.25: sampled.matrix[:, 0, 0] < 0, 0.5: sampled.erased.any(dim=1)}
    for probability, images in changed.items():
        assert abs(images.float().mean() - probability) < 5 * (probability * (1 - probability) / 20_000) ** 0.5


def test_shift_and_color_factors_fill_their_ranges() -> None:
    sampled = sample(5_000, shift=2.0, **dict.fromkeys(COLORS, 0.3))
    assert torch.allclose(sampled.matrix[:, :, :2], torch.eye(2))
    for values, low, high in ((sampled.matrix[:, :, 2], -2, 2), (sampled.color, 0.7, 1.3)):
        assert low <= values.min() < low + 0.01
        assert high - 0.01 < values.max() <= high


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_all_zero_is_the_identity(images: Tensor, interpolation: str) -> None:
    assert AugmentationParams(**OFF | {"interpolation": interpolation}).is_identity
    assert not AugmentationParams(**OFF | {"flip_prob": 0.1}).is_identity
    assert torch.allclose(augment(images, sample(24), [0.5], [0.25], interpolation), images, atol=1e-5)


@pytest.mark.parametrize(("interpolation", "rotation"), [("bilinear", 9.0), ("nearest", 0.0)])
def test_augment_reads_nothing_from_the_device(interpolation: str, rotation: float) -> None:
    """It would wait for a GPU. Reading a tensor on the device `meta` is an error."""
    limits = dict.fromkeys(["center_crop_prob", "erasing_prob", *COLORS], 0.5)
    augmentations = sample(9, rotation=rotation, shift=2.0, **limits)
    pixels = augment(torch.zeros(9, 3, 28, 28, device="meta"), augmentations, [0.5] * 3, [0.0] * 3, interpolation)
    assert (pixels.device.type, pixels.shape) == ("meta", (9, 3, 28, 28))


@pytest.mark.parametrize("channels", [1, 3])
def test_colors_equal_torchvisions(color_images: Tensor, channels: int) -> None:
    """Brightness, then contrast, then saturation, each with another factor from 0 to 2 for every image."""
    images, factors = color_images[:, :channels], torch.rand(24, 3, generator=seeded(1)) * 2
    theirs = []
    for image, (brightness, contrast, saturation) in zip(images, factors.tolist(), strict=True):
        image = v2.adjust_contrast(v2.adjust_brightness(image, brightness), contrast)
        theirs.append(v2.adjust_saturation(image, saturation))
    assert torch.allclose(adjust_color(images, factors), torch.stack(theirs), atol=1e-6)


def test_erasing_equals_torchvisions(color_images: Tensor) -> None:
    """Boxes of whole pixels, and none for the first image."""
    top, left = torch.randint(0, 20, (2, 24), generator=seeded(1))
    height, width = torch.randint(1, 9, (2, 24), generator=seeded(2)) * (torch.arange(24) > 0)
    mean = torch.tensor([0.1, 0.2, 0.3])
    boxes = torch.stack([top, left, height, width], dim=1).tolist()
    theirs = [v2.erase(image, *box, mean[:, None, None]) for image, box in zip(color_images, boxes, strict=True)]
    erased = torch.stack([top, left, top + height, left + width], dim=1) / 28
    assert torch.equal(erase(color_images, erased, mean.tolist()), torch.stack(theirs))


def test_erased_rectangles_are_in_torchvisions_ranges() -> None:
    """A side longer than the image is cut. torchvision draws such a rectangle again."""
    top, left, bottom, right = sample(20_000, erasing_prob=1.0).erased.T
    height, width = bottom - top, right - left
    assert min(top.min(), left.min()) >= 0
    assert max(bottom.max(), right.max()) <= 1 + 1e-6
    whole = (height < 0.999) & (width < 0.999)
    assert whole.float().mean() > 0.97
    area, log_ratio = (height * width)[whole], (height / width)[whole].log()
    assert [area.min(), area.max()] == pytest.approx(list(RandomErasing().scale), rel=0.02)
    assert log_ratio.exp().aminmax() == pytest.approx(RandomErasing().ratio, rel=0.06)
    assert abs(log_ratio.mean()) < 0.02  # as often high as wide
    assert [(top + bottom).mean() / 2, (left + right).mean() / 2] == pytest.approx([0.5, 0.5], abs=0.01)


def test_geometry_does_not_depend_on_color_and_erasing() -> None:
    """Switching one technique on changes nothing else."""
    limits = {"center_crop_prob": 0.5, "flip_prob": 0.5, "rotation": 10.0, "scale": 0.1, "shear": 5.0, "shift": 2.0}
    plain, colored = sample(24, **limits), sample(24, **limits, **dict.fromkeys([*COLORS, "erasing_prob"], 0.5))
    assert torch.equal(plain.cropped, colored.cropped)
    assert torch.equal(plain.matrix, colored.matrix)


def test_rotated_images_have_the_color_of_the_border_outside() -> None:
    white = torch.ones(8, 3, 28, 28)
    assert torch.allclose(augment(white, sample(8, rotation=45.0, shift=9.0), [0.5] * 3, [1.0] * 3, "bilinear"), white)
