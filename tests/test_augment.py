"""Batched augmentation against torchvision's own transforms, image by image."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as oracle

from src.params import Augmentation, Normalize
from src.transforms import (
    Transforms,
    apply_mnist_image_transformations,
    draw_transforms,
    enlarge_center,
    inverse_affine,
    transform,
)

NONE = {"center_crop": 0, "flip": 0, "rotation": 0, "scale": 0, "shear": 0, "shift": 0, "interpolation": "bilinear"}
MODES = {"nearest": InterpolationMode.NEAREST, "bilinear": InterpolationMode.BILINEAR}


@pytest.fixture
def images() -> Tensor:
    """24 smooth float images [24, 1, 28, 28] from 0 to 1."""
    rough = torch.rand(24, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(rough, size=(28, 28), mode="bilinear")


def plain(matrix: Tensor) -> Transforms:
    return Transforms(torch.zeros(len(matrix), dtype=torch.bool), matrix)


@pytest.mark.parametrize("mode", MODES)
def test_affine_is_torchvisions(images: Tensor, mode: str) -> None:
    """Rotation, shear, scale and shift in pixels: the same image as torchvision's `affine`, also in sign and order."""
    generator = torch.Generator().manual_seed(1)
    angle, shear = ((torch.rand(24, generator=generator) - 0.5) * limit for limit in (30.0, 20.0))
    scale = 1 + (torch.rand(24, generator=generator) - 0.5) * 0.4
    x, y = (torch.randint(-3, 4, (24,), generator=generator).float() for _ in range(2))
    matrix = inverse_affine(angle.deg2rad(), shear.deg2rad().tan(), scale, x, y)
    ours = transform(images, plain(matrix), mode, (28, 28))
    theirs = torch.stack(
        [
            oracle.affine(
                image, angle[i].item(), [int(x[i]), int(y[i])], scale[i].item(), [shear[i].item(), 0.0], MODES[mode]
            )
            for i, image in enumerate(images)
        ]
    )
    near = (ours - theirs).abs() < 1e-3
    assert near.float().mean() > (0.999 if mode == "bilinear" else 0.99)  # nearest: a tie may go either way


def test_rotation_is_the_notebooks(images: Tensor) -> None:
    """RandomRotation turns counter-clockwise by its angle, as our negative angle does, with nearest pixels."""
    angle = torch.linspace(-15, 15, 24)
    zero = torch.zeros(24)
    ours = transform(images, plain(inverse_affine(-angle.deg2rad(), zero, zero + 1, zero, zero)), "nearest", (28, 28))
    theirs = torch.stack([oracle.rotate(image, angle[i].item()) for i, image in enumerate(images)])
    assert ((ours - theirs).abs() < 1e-6).float().mean() > 0.99


def test_whole_pixels_are_torchvisions(images: Tensor) -> None:
    """A shift alone, to the nearest pixel: exactly torchvision's `affine`, up to 3 pixels each way, after any crop."""
    x, y = (torch.randint(-3, 4, (24,), generator=torch.Generator().manual_seed(seed)).float() for seed in (1, 2))
    still = torch.zeros(24)
    cropped = torch.arange(24) % 2 == 0
    transforms = Transforms(cropped, inverse_affine(still, still, still + 1, x + 0.2, y - 0.2))
    assert transforms.only_shift
    ours = transform(images, transforms, "nearest", (28, 28))
    moves = [[int(x[i]), int(y[i])] for i in range(24)]
    seen = torch.where(cropped[:, None, None, None], enlarge_center(images), images)
    theirs = [oracle.affine(image, 0.0, moves[i], 1.0, [0.0, 0.0], MODES["nearest"]) for i, image in enumerate(seen)]
    assert torch.equal(ours, torch.stack(theirs))


def test_enlarged_center_is_crop_and_resize(images: Tensor) -> None:
    """CenterCrop(22), then Resize(28)."""
    theirs = oracle.resize(oracle.center_crop(images, [22, 22]), [28, 28], antialias=False)
    assert torch.allclose(enlarge_center(images), theirs, atol=1e-6)


def test_crop_happens_with_its_probability() -> None:
    """A tenth of 20,000 images, within five standard deviations."""
    settings = Augmentation(**{**NONE, "center_crop": 0.1})
    cropped = draw_transforms(20_000, settings, torch.Generator().manual_seed(0)).cropped
    assert abs(cropped.float().mean().item() - 0.1) < 5 * (0.1 * 0.9 / 20_000) ** 0.5


def test_flip_is_torchvisions(images: Tensor) -> None:
    """About half of the images change sides, by `hflip` exactly; every other draw stays what it was without flips."""
    moves = {**NONE, "rotation": 10, "shift": 2}
    drawn = [
        draw_transforms(24, Augmentation(**{**moves, "flip": flip}), torch.Generator().manual_seed(0))
        for flip in (0.0, 0.5)
    ]
    flipped = (drawn[0].matrix != drawn[1].matrix).flatten(1).any(dim=1)
    assert 6 <= flipped.sum() <= 18
    sides = torch.where(flipped[:, None, None, None], oracle.hflip(images), images)
    straight = transform(sides, drawn[0], "bilinear", (28, 28))
    assert torch.allclose(transform(images, drawn[1], "bilinear", (28, 28)), straight, atol=1e-5)


def test_draws_fill_their_ranges_and_stay_inside() -> None:
    """Shift up to 2 pixels either way, and nothing else."""
    settings = Augmentation(**{**NONE, "shift": 2.0})
    matrix = draw_transforms(5_000, settings, torch.Generator().manual_seed(0)).matrix
    assert torch.allclose(matrix[:, :, :2], torch.eye(2))
    assert 1.99 < matrix[:, :, 2].max() <= 2
    assert -2 <= matrix[:, :, 2].min() < -1.99


def test_nothing_drawn_changes_nothing() -> None:
    """All settings 0: what training sees is what evaluation sees."""
    images = torch.randint(0, 256, (7, 28, 28), dtype=torch.uint8)
    normalize = Normalize(mean=0.1307, std=0.3081)
    still = draw_transforms(7, Augmentation(**NONE), torch.Generator().manual_seed(0))
    seen = apply_mnist_image_transformations(images, normalize, still)
    expected = torch.stack([oracle.normalize(image[None] / 255, [0.1307], [0.3081]) for image in images])
    assert torch.allclose(seen, expected, atol=1e-4)
    assert torch.allclose(apply_mnist_image_transformations(images, normalize), expected, atol=1e-6)
