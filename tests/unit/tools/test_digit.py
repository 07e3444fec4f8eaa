"""How photos and scans of a digit become MNIST images."""

import io

import numpy as np
import pytest
from PIL import Image

from src.sources.image_file import read_image
from tests.images import encode, printed
from tools.digit import extract_digit


def extract(content: bytes) -> np.ndarray:
    return extract_digit(read_image(io.BytesIO(content)))


@pytest.mark.parametrize("size", [28, 60, 300, 2000])
@pytest.mark.parametrize(("ink", "paper"), [("black", "white"), ("white", "black"), ("#446", "#cba")])
def test_digit_of_any_size_and_color_becomes_white_on_black_20_pixels_high_and_centered(
    size: int, ink: str, paper: str
) -> None:
    digit = extract(encode(printed("8", size, ink, paper), "PNG"))
    assert (digit.shape, digit.dtype, digit.max()) == ((28, 28), np.uint8, 255)
    rows = digit.max(axis=1).nonzero()[0]
    assert rows[-1] - rows[0] + 1 == 20
    center = [(digit.sum(axis=1 - axis) * np.arange(28)).sum() / digit.sum() for axis in (0, 1)]
    assert np.abs(np.array(center) - 14).max() <= 0.5


def test_transparency_exif_rotation_and_16_bits_do_not_change_the_digit() -> None:
    upright = extract(encode(printed("4"), "PNG"))
    transparent = Image.new("RGBA", (300, 300), "black")
    transparent.putalpha(Image.eval(printed("4").convert("L"), lambda value: 255 - value))
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by a quarter turn, clockwise
    rotated = encode(printed("4").rotate(90), "JPEG", exif=exif, quality=95)
    deep = Image.fromarray(np.asarray(printed("4", 2000).convert("L"), np.uint16) * 257)  # as scanners write
    for content in (encode(transparent, "PNG"), rotated, encode(deep, "PNG")):
        assert np.abs(extract(content).astype(int) - upright).mean() < 4


def test_empty_page_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing differs from the background"):
        extract_digit(Image.new("L", (100, 100), 200))
