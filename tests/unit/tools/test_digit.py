"""How photos and scans of a digit become MNIST images."""

import io

import numpy as np
import pytest
from PIL import Image

from src.sources.image_file import read_image
from tests.images import encode, printed
from tools.digit import extract_digit


@pytest.mark.parametrize(
    ("size", "ink", "paper"),
    [(28, "black", "white"), (60, "white", "black"), (300, "#446", "#cba"), (2000, "#222", "#ddd")],
)
def test_digit_of_any_size_and_color_becomes_white_on_black_20_pixels_high_and_centered(
    size: int, ink: str, paper: str
) -> None:
    digit = extract_digit(read_image(io.BytesIO(encode(printed("8", size, ink, paper), "PNG"))))
    assert (digit.shape, digit.dtype, digit.max()) == ((28, 28), np.uint8, 255)
    rows = digit.max(axis=1).nonzero()[0]
    assert rows[-1] - rows[0] + 1 == 20
    center = [(digit.sum(axis=1 - axis) * np.arange(28)).sum() / digit.sum() for axis in (0, 1)]
    assert np.abs(np.array(center) - 14).max() <= 0.5


def test_empty_page_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing differs from the background"):
        extract_digit(Image.new("L", (100, 100), 200))
