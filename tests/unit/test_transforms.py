"""Batched augmentation equals torchvision's transforms, image by image."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomErasing
from torchvision.transforms import functional as torchvision
from torchvision.transforms.v2 import functional as v2

from src.params import Augmentation, Normalize
from src.transforms import (
    SampledAugmentations,
    adjust_color,
    center_crop_resize,
    erase,
    inverse_affine,
    measure_normalization,
    preprocess,
    sample_augmentations,
    shift_four_ways,
    shift_pixels,
    to_float,
    warp,
)

NUMBERS = [name for name, field in Augmentation.model_fields.items() if field.annotation is float]
COLORS = ["brightness", "contrast", "saturation"]
IDENTITY = dict.fromkeys(NUMBERS, 0.0) | {"interpolation": "bilinear"}
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


def sample(count: int, seed: int = 0, **changes: float) -> SampledAugmentations:
    return sample_augmentations(count, Augmentation(**{**IDENTITY, **changes}), seeded(seed))


def geometry(matrix: Tensor, cropped: Tensor | None = None) -> SampledAugmentations:
    """Return augmentations that move pixels and leave their values."""
    count = len(matrix)
    if cropped is None:
        cropped = torch.zeros(count, dtype=torch.bool)
    return SampledAugmentations(cropped, matrix, torch.ones(count, 3), torch.zeros(count, 4))


@pytest.mark.parametrize("mode", MODES)
def test_warp_equals_torchvisions_affine(images: Tensor, mode: str) -> None:
    """Rotation, shear, scale and shift, with their signs and their order."""
    generator = seeded(1)
    angle, shear = ((torch.rand(24, generator=generator) - 0.5) * limit for limit in (30.0, 20.0))
    scale = 1 + (torch.rand(24, generator=generator) - 0.5) * 0.4
    x, y = (torch.randint(-3, 4, (24,), generator=generator).float() for _ in range(2))
    matrix = inverse_affine(angle.deg2rad(), shear.deg2rad().tan(), scale, x, y)
    ours = warp(images, geometry(matrix), mode)
    theirs = torch.stack(
        [
            torchvision.affine(
                image, angle[i].item(), [int(x[i]), int(y[i])], scale[i].item(), [shear[i].item(), 0.0], MODES[mode]
            )
            for i, image in enumerate(images)
        ]
    )
    near = (ours - theirs).abs() < 1e-3
    assert near.float().mean() > (0.999 if mode == "bilinear" else 0.99)  # nearest: a tie may go either way


def test_rotation_equals_the_notebooks_random_rotation(images: Tensor) -> None:
    """RandomRotation turns counter-clockwise, so its angle is our negative angle."""
    angle = torch.linspace(-15, 15, 24)
    zero = torch.zeros(24)
    ours = warp(images, geometry(inverse_affine(-angle.deg2rad(), zero, zero + 1, zero, zero)), "nearest")
    theirs = torch.stack([torchvision.rotate(image, angle[i].item()) for i, image in enumerate(images)])
    assert ((ours - theirs).abs() < 1e-6).float().mean() > 0.99


def test_nearest_shift_equals_torchvision_exactly(images: Tensor) -> None:
    """Up to 3 whole pixels each way, after the center crop of every second image."""
    x, y = (torch.randint(-3, 4, (24,), generator=seeded(seed)).float() for seed in (1, 2))
    zero = torch.zeros(24)
    cropped = torch.arange(24) % 2 == 0
    affine = geometry(inverse_affine(zero, zero, zero + 1, x + 0.2, y - 0.2), cropped)
    assert affine.is_shift
    ours = warp(images, affine, "nearest")
    offsets = [[int(x[i]), int(y[i])] for i in range(24)]
    inputs = torch.where(cropped[:, None, None, None], center_crop_resize(images), images)
    theirs = [
        torchvision.affine(image, 0.0, offsets[i], 1.0, [0.0, 0.0], MODES["nearest"]) for i, image in enumerate(inputs)
    ]
    assert torch.equal(ours, torch.stack(theirs))


def test_shift_pixels_reads_further_right_and_down() -> None:
    image = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(1, 1, 2, 2)
    assert shift_pixels(image, torch.tensor([[1, 0]])).flatten().tolist() == [2, 0, 4, 0]
    assert shift_pixels(image, torch.tensor([[0, -1]])).flatten().tolist() == [0, 0, 1, 2]


def test_four_shifts_move_up_down_left_and_right() -> None:
    image = torch.tensor([[[1, 2], [3, 4]]], dtype=torch.uint8)
    copies = [copy.flatten().tolist() for copy in shift_four_ways(image)]
    assert copies == [[3, 4, 0, 0], [0, 0, 1, 2], [2, 0, 4, 0], [0, 1, 0, 3]]


def test_rotation_is_not_a_shift() -> None:
    assert not sample(3, rotation=5.0).is_shift


def test_center_crop_resize_equals_the_notebooks_crop_and_resize(images: Tensor) -> None:
    """CenterCrop(22), then Resize(28)."""
    theirs = torchvision.resize(torchvision.center_crop(images, [22, 22]), [28, 28], antialias=False)
    assert torch.allclose(center_crop_resize(images), theirs, atol=1e-6)


def test_crop_happens_with_its_probability() -> None:
    """A tenth of 20,000 images, within five standard deviations."""
    cropped = sample(20_000, center_crop=0.1).cropped
    assert abs(cropped.float().mean().item() - 0.1) < 5 * (0.1 * 0.9 / 20_000) ** 0.5


def test_flip_equals_torchvisions_hflip(images: Tensor) -> None:
    """About half of the images flip; all other random numbers are those without flips."""
    straight, mixed = (sample(24, rotation=10.0, shift=2.0, flip=flip) for flip in (0.0, 0.5))
    flipped = (straight.matrix != mixed.matrix).flatten(1).any(dim=1)
    assert 6 <= flipped.sum() <= 18
    mirrored = torch.where(flipped[:, None, None, None], torchvision.hflip(images), images)
    expected = warp(mirrored, straight, "bilinear")
    assert torch.allclose(warp(images, mixed, "bilinear"), expected, atol=1e-5)


def test_shift_fills_its_range_and_changes_nothing_else() -> None:
    matrix = sample(5_000, shift=2.0).matrix
    assert torch.allclose(matrix[:, :, :2], torch.eye(2))
    assert 1.99 < matrix[:, :, 2].max() <= 2
    assert -2 <= matrix[:, :, 2].min() < -1.99


def augment(images: Tensor, augmentations: SampledAugmentations) -> Tensor:
    """Return uint8 [batch, height, width, 3] as floats, after the augmentation."""
    return preprocess(images, Normalize(mean=[0.0] * 3, std=[1.0] * 3), augmentations)


@pytest.mark.parametrize("name", NUMBERS)
def test_each_setting_alone_changes_color_images(name: str) -> None:
    images = torch.randint(0, 256, (24, 28, 28, 3), dtype=torch.uint8, generator=seeded())
    assert not Augmentation(**{**IDENTITY, name: 0.5}).is_identity
    assert not torch.allclose(augment(images, sample(24, **{name: 0.5})), to_float(images), atol=1e-3)


def test_every_augmentation_setting_is_tested() -> None:
    assert set(Augmentation.model_fields) == {*NUMBERS, "interpolation"}
    assert set(NUMBERS) > {"flip", *COLORS, "erasing"}


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_all_zero_is_the_identity(images: Tensor, interpolation: str) -> None:
    assert Augmentation(**{**IDENTITY, "interpolation": interpolation}).is_identity
    augmentations = sample(24)
    assert torch.allclose(warp(images, augmentations, interpolation), images, atol=1e-5)
    assert torch.equal(augmentations.color, torch.ones(24, 3))
    assert torch.equal(augmentations.erased, torch.zeros(24, 4))


def test_preprocess_without_augmentation_equals_torchvisions_normalize() -> None:
    """Training without augmentation sees the images that evaluation sees."""
    images = torch.randint(0, 256, (7, 28, 28), dtype=torch.uint8, generator=seeded())
    normalize = Normalize(mean=[0.1307], std=[0.3081])
    expected = torch.stack([torchvision.normalize(image[None] / 255, [0.1307], [0.3081]) for image in images])
    assert torch.allclose(preprocess(images, normalize), expected, atol=1e-6)
    assert torch.allclose(preprocess(images, normalize, sample(7)), expected, atol=1e-4)


@pytest.mark.parametrize(("interpolation", "rotation"), [("bilinear", 9.0), ("nearest", 0.0)])
def test_preprocess_reads_nothing_from_the_device(interpolation: str, rotation: float) -> None:
    """It would wait for a GPU. Reading a tensor on the device `meta` is an error."""
    images = torch.zeros(9, 28, 28, 3, dtype=torch.uint8, device="meta")
    limits = dict.fromkeys(["center_crop", "erasing", *COLORS], 0.5)
    augmentations = sample(9, rotation=rotation, shift=2.0, **limits)
    pixels = preprocess(images, Normalize(mean=[0.5] * 3, std=[0.5] * 3), augmentations, interpolation)
    assert (pixels.device.type, pixels.shape) == ("meta", (9, 3, 28, 28))


def test_preprocess_of_color_images_equals_torchvisions_normalize() -> None:
    images = torch.randint(0, 256, (7, 20, 24, 3), dtype=torch.uint8, generator=seeded())
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    expected = torchvision.normalize(images.permute(0, 3, 1, 2) / 255, mean, std)
    assert torch.allclose(preprocess(images, Normalize(mean=mean, std=std)), expected, atol=1e-6)
    assert torch.allclose(preprocess(images, Normalize(mean=mean, std=std), sample(7)), expected, atol=1e-4)


def test_augmentations_are_indexed_by_image() -> None:
    augmentations = sample(5, center_crop=0.5, shift=2.0, brightness=0.5, erasing=0.5)
    chosen = augmentations[torch.tensor([3, 1])]
    for name, values in vars(augmentations).items():
        assert torch.equal(getattr(chosen, name), values[[3, 1]])
    assert len(augmentations[:2].cropped) == 2


def test_float_images_have_the_channels_first() -> None:
    gray, color = torch.full((2, 4, 5), 51, dtype=torch.uint8), torch.zeros(2, 4, 5, 3, dtype=torch.uint8)
    color[1, 2, 3] = torch.tensor([255, 51, 0])
    assert torch.equal(to_float(gray), torch.full((2, 1, 4, 5), 0.2))
    assert to_float(color).shape == (2, 3, 4, 5)
    assert torch.equal(to_float(color)[1, :, 2, 3], torch.tensor([1.0, 0.2, 0.0]))


def test_colors_equal_torchvisions(color_images: Tensor) -> None:
    """Brightness, then contrast, then saturation, each with another factor from 0 to 2 for every image."""
    factors = torch.rand(24, 3, generator=seeded(1)) * 2
    theirs = []
    for image, (brightness, contrast, saturation) in zip(color_images, factors.tolist(), strict=True):
        image = v2.adjust_contrast(v2.adjust_brightness(image, brightness), contrast)
        theirs.append(v2.adjust_saturation(image, saturation))
    assert torch.allclose(adjust_color(color_images, factors), torch.stack(theirs), atol=1e-6)


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.5])
@pytest.mark.parametrize("name", COLORS)
def test_each_color_factor_equals_torchvisions(color_images: Tensor, name: str, factor: float) -> None:
    factors = torch.ones(24, 3)
    factors[:, COLORS.index(name)] = factor
    theirs = getattr(v2, f"adjust_{name}")(color_images, factor)
    assert torch.allclose(adjust_color(color_images, factors), theirs, atol=1e-6)


def test_colors_of_gray_images_equal_torchvisions(images: Tensor) -> None:
    ours = adjust_color(images, torch.tensor([0.7, 1.4, 1.0]).expand(24, 3))
    assert torch.allclose(ours, v2.adjust_contrast(v2.adjust_brightness(images, 0.7), 1.4), atol=1e-6)


@pytest.mark.parametrize("name", COLORS)
def test_color_factors_fill_their_range(name: str) -> None:
    color = sample(5_000, **{name: 0.3}).color
    chosen, others = color[:, COLORS.index(name)], [i for i in range(3) if COLORS[i] != name]
    assert 0.7 <= chosen.min() < 0.701
    assert 1.299 < chosen.max() <= 1.3
    assert torch.equal(color[:, others], torch.ones(5_000, 2))


def test_erasing_equals_torchvisions(color_images: Tensor) -> None:
    """Boxes of whole pixels."""
    generator = seeded(1)
    top, left = torch.randint(0, 20, (2, 24), generator=generator)
    height, width = torch.randint(1, 9, (2, 24), generator=generator)
    erased = torch.stack([top, left, top + height, left + width], dim=1) / 28
    boxes = torch.stack([top, left, height, width], dim=1).tolist()
    theirs = [v2.erase(image, *box, torch.zeros(1)) for image, box in zip(color_images, boxes, strict=True)]
    assert torch.equal(erase(color_images, erased), torch.stack(theirs))


def test_rectangle_of_zeros_erases_nothing(color_images: Tensor) -> None:
    assert torch.equal(erase(color_images, torch.zeros(24, 4)), color_images)
    assert not erase(color_images, torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(24, 4)).any()


def test_erased_rectangles_lie_in_torchvisions_ranges() -> None:
    """A side longer than the image is cut. torchvision draws such a rectangle again."""
    top, left, bottom, right = sample(20_000, erasing=1.0).erased.T
    height, width = bottom - top, right - left
    low, high = RandomErasing().scale
    assert min(top.min(), left.min()) >= 0
    assert max(bottom.max(), right.max()) <= 1 + 1e-6
    whole = (height < 0.999) & (width < 0.999)
    assert whole.float().mean() > 0.97
    area, ratio = (height * width)[whole], (height / width)[whole]
    assert low * 0.999 < area.min() < low * 1.02
    assert high * 0.98 < area.max() < high * 1.001
    assert 0.3 * 0.999 < ratio.min() < 0.32
    assert 3.1 < ratio.max() < 3.3 * 1.001
    assert abs(ratio.log().mean()) < 0.02  # as often high as wide
    assert abs((top + bottom).mean() / 2 - 0.5) < 0.01
    assert abs((left + right).mean() / 2 - 0.5) < 0.01


def test_erasing_happens_with_its_probability() -> None:
    """A quarter of 20,000 images, within five standard deviations."""
    erased = sample(20_000, erasing=0.25).erased.any(dim=1)
    assert abs(erased.float().mean().item() - 0.25) < 5 * (0.25 * 0.75 / 20_000) ** 0.5


def test_erased_pixels_have_the_mean_value() -> None:
    """Erasing follows normalization, as in torchvision's reference recipe."""
    images = torch.full((8, 28, 28, 3), 255, dtype=torch.uint8)
    pixels = preprocess(images, Normalize(mean=[0.1, 0.2, 0.3], std=[0.5] * 3), sample(8, erasing=1.0))
    erased = (pixels == 0).all(dim=1)
    assert erased.flatten(1).any(dim=1).all()
    for channel, value in enumerate([1.8, 1.6, 1.4]):
        assert torch.allclose(pixels[:, channel][~erased], torch.tensor(value))


def test_geometry_does_not_depend_on_color_and_erasing() -> None:
    """A recipe from before these settings trains on the same images."""
    limits = {"center_crop": 0.5, "flip": 0.5, "rotation": 10.0, "scale": 0.1, "shear": 5.0, "shift": 2.0}
    plain = sample(24, **limits)
    colored = sample(24, **limits, brightness=0.5, contrast=0.4, saturation=0.3, erasing=0.5)
    assert torch.equal(plain.cropped, colored.cropped)
    assert torch.equal(plain.matrix, colored.matrix)
    before = [[-0.96075648, 0.06430702, 0.90896851], [0.02706443, 0.96180445, -0.78190589]]
    assert plain.matrix[0].tolist() == [pytest.approx(row) for row in before]
    assert plain.cropped[:6].tolist() == [True, False, True, True, True, False]


@pytest.mark.parametrize("shape", [(50, 20, 24), (50, 20, 24, 3)])
def test_measured_normalization_equals_numpys(shape: tuple[int, ...]) -> None:
    images = np.random.default_rng(0).integers(0, 200, shape, np.uint8)
    channels = images.reshape(-1, shape[3] if len(shape) == 4 else 1) / 255
    normalize = measure_normalization(images)
    assert normalize.mean == [round(value, 4) for value in channels.mean(axis=0).tolist()]
    assert normalize.std == [round(value, 4) for value in channels.std(axis=0).tolist()]


def test_channel_without_variation_is_not_scaled() -> None:
    images = np.zeros((4, 8, 8, 3), np.uint8)
    images[..., 1] = 255
    assert measure_normalization(images) == Normalize(mean=[0.0, 1.0, 0.0], std=[1.0, 1.0, 1.0])
