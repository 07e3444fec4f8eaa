"""Batched augmentation equals torchvision's transforms, image by image."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as torchvision

from src.params import Augmentation, Normalize
from src.transforms import (
    AffineBatch,
    center_crop_resize,
    inverse_affine,
    preprocess,
    sample_affine,
    shift_pixels,
    warp,
)

NUMBERS = [name for name, field in Augmentation.model_fields.items() if field.annotation is float]
IDENTITY = dict.fromkeys(NUMBERS, 0.0) | {"interpolation": "bilinear"}
MODES = {"nearest": InterpolationMode.NEAREST, "bilinear": InterpolationMode.BILINEAR}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    """24 smooth float images [24, 1, 28, 28] from 0 to 1."""
    rough = torch.rand(24, 1, 9, 9, generator=seeded())
    return torch.nn.functional.interpolate(rough, size=(28, 28), mode="bilinear")


def uncropped(matrix: Tensor) -> AffineBatch:
    return AffineBatch(torch.zeros(len(matrix), dtype=torch.bool), matrix)


@pytest.mark.parametrize("mode", MODES)
def test_warp_equals_torchvisions_affine(images: Tensor, mode: str) -> None:
    """Rotation, shear, scale and shift, with their signs and their order."""
    generator = seeded(1)
    angle, shear = ((torch.rand(24, generator=generator) - 0.5) * limit for limit in (30.0, 20.0))
    scale = 1 + (torch.rand(24, generator=generator) - 0.5) * 0.4
    x, y = (torch.randint(-3, 4, (24,), generator=generator).float() for _ in range(2))
    matrix = inverse_affine(angle.deg2rad(), shear.deg2rad().tan(), scale, x, y)
    ours = warp(images, uncropped(matrix), mode, (28, 28))
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
    ours = warp(images, uncropped(inverse_affine(-angle.deg2rad(), zero, zero + 1, zero, zero)), "nearest", (28, 28))
    theirs = torch.stack([torchvision.rotate(image, angle[i].item()) for i, image in enumerate(images)])
    assert ((ours - theirs).abs() < 1e-6).float().mean() > 0.99


def test_nearest_shift_equals_torchvision_exactly(images: Tensor) -> None:
    """Up to 3 whole pixels each way, after the center crop of every second image."""
    x, y = (torch.randint(-3, 4, (24,), generator=seeded(seed)).float() for seed in (1, 2))
    zero = torch.zeros(24)
    cropped = torch.arange(24) % 2 == 0
    affine = AffineBatch(cropped, inverse_affine(zero, zero, zero + 1, x + 0.2, y - 0.2))
    assert affine.is_shift
    ours = warp(images, affine, "nearest", (28, 28))
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


def test_rotation_is_not_a_shift() -> None:
    affine = sample_affine(3, Augmentation(**{**IDENTITY, "rotation": 5.0}), seeded())
    assert not affine.is_shift


def test_center_crop_resize_equals_the_notebooks_crop_and_resize(images: Tensor) -> None:
    """CenterCrop(22), then Resize(28)."""
    theirs = torchvision.resize(torchvision.center_crop(images, [22, 22]), [28, 28], antialias=False)
    assert torch.allclose(center_crop_resize(images), theirs, atol=1e-6)


def test_crop_happens_with_its_probability() -> None:
    """A tenth of 20,000 images, within five standard deviations."""
    settings = Augmentation(**{**IDENTITY, "center_crop": 0.1})
    cropped = sample_affine(20_000, settings, seeded()).cropped
    assert abs(cropped.float().mean().item() - 0.1) < 5 * (0.1 * 0.9 / 20_000) ** 0.5


def test_flip_equals_torchvisions_hflip(images: Tensor) -> None:
    """About half of the images flip; all other random numbers are those without flips."""
    settings = {**IDENTITY, "rotation": 10.0, "shift": 2.0}
    straight, mixed = (sample_affine(24, Augmentation(**{**settings, "flip": flip}), seeded()) for flip in (0.0, 0.5))
    flipped = (straight.matrix != mixed.matrix).flatten(1).any(dim=1)
    assert 6 <= flipped.sum() <= 18
    mirrored = torch.where(flipped[:, None, None, None], torchvision.hflip(images), images)
    expected = warp(mirrored, straight, "bilinear", (28, 28))
    assert torch.allclose(warp(images, mixed, "bilinear", (28, 28)), expected, atol=1e-5)


def test_shift_fills_its_range_and_changes_nothing_else() -> None:
    settings = Augmentation(**{**IDENTITY, "shift": 2.0})
    matrix = sample_affine(5_000, settings, seeded()).matrix
    assert torch.allclose(matrix[:, :, :2], torch.eye(2))
    assert 1.99 < matrix[:, :, 2].max() <= 2
    assert -2 <= matrix[:, :, 2].min() < -1.99


@pytest.mark.parametrize("name", NUMBERS)
def test_each_setting_alone_changes_the_images(images: Tensor, name: str) -> None:
    settings = Augmentation(**{**IDENTITY, name: 0.5})
    assert not settings.is_identity
    assert not torch.allclose(
        warp(images, sample_affine(24, settings, seeded()), "bilinear", (28, 28)), images, atol=1e-3
    )


def test_every_augmentation_setting_is_tested() -> None:
    assert set(Augmentation.model_fields) == {*NUMBERS, "interpolation"}


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear"])
def test_all_zero_is_the_identity(images: Tensor, interpolation: str) -> None:
    settings = Augmentation(**{**IDENTITY, "interpolation": interpolation})
    assert settings.is_identity
    warped = warp(images, sample_affine(24, settings, seeded()), interpolation, (28, 28))
    assert torch.allclose(warped, images, atol=1e-5)


def test_preprocess_without_augmentation_equals_torchvisions_normalize() -> None:
    """Training without augmentation sees the images that evaluation sees."""
    images = torch.randint(0, 256, (7, 28, 28), dtype=torch.uint8, generator=seeded())
    normalize = Normalize(mean=0.1307, std=0.3081)
    expected = torch.stack([torchvision.normalize(image[None] / 255, [0.1307], [0.3081]) for image in images])
    identity = sample_affine(7, Augmentation(**IDENTITY), seeded())
    assert torch.allclose(preprocess(images, normalize), expected, atol=1e-6)
    assert torch.allclose(preprocess(images, normalize, identity), expected, atol=1e-4)


def test_preprocess_resizes_augmented_images() -> None:
    images = torch.zeros(3, 28, 28, dtype=torch.uint8)
    affine = sample_affine(3, Augmentation(**IDENTITY), seeded())
    assert preprocess(images, Normalize(mean=0.0, std=1.0), affine, size=(20, 20)).shape == (3, 1, 20, 20)


def test_preprocess_refuses_a_size_without_a_transformation() -> None:
    with pytest.raises(ValueError, match="size needs affine, because only warp resizes"):
        preprocess(torch.zeros(3, 28, 28, dtype=torch.uint8), Normalize(mean=0.0, std=1.0), size=(20, 20))


def test_affine_batch_is_indexed_by_image() -> None:
    affine = sample_affine(5, Augmentation(**{**IDENTITY, "shift": 2.0}), seeded())
    assert torch.equal(affine[torch.tensor([3, 1])].matrix, affine.matrix[[3, 1]])
    assert len(affine[:2].cropped) == 2
