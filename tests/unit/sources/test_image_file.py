"""How image files become gray images of 28 x 28 pixels. Hostile files are in the tests of tools.predict."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.sources.image_file import letterbox, read_image


def png(image: Image.Image) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file


def test_letterbox_keeps_the_aspect_ratio_and_fills_with_black() -> None:
    image = letterbox(Image.new("L", (10, 40), 255))
    assert (image.shape, image.dtype) == ((28, 28), np.uint8)
    assert image.max(axis=0).nonzero()[0].tolist() == list(range(10, 17))  # the middle 7 of 28 columns


def test_read_image_scales_16_bits_to_8() -> None:
    image = read_image(png(Image.fromarray(np.full((40, 40), 128 * 257, np.uint16))))
    assert np.unique(np.asarray(image)).tolist() == [128]


def test_read_image_makes_transparent_pixels_white() -> None:
    image = read_image(png(Image.new("RGBA", (4, 4), (0, 0, 0, 0))))
    assert (image.mode, np.unique(np.asarray(image)).tolist()) == ("L", [255])


def test_read_image_reduces_large_images_to_400_pixels() -> None:
    assert read_image(png(Image.new("L", (2000, 1000)))).size == (400, 200)


def test_read_image_applies_the_exif_orientation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees
    Image.new("L", (30, 20)).save(tmp_path / "photo.jpg", exif=exif)
    assert read_image(tmp_path / "photo.jpg").size == (20, 30)


def test_read_image_refuses_other_formats() -> None:
    file = io.BytesIO()
    Image.new("L", (4, 4)).save(file, "GIF")
    with pytest.raises(ValueError, match="cannot identify image file"):
        read_image(file)
