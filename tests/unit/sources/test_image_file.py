"""How image files become squares of pixels. Hostile files are in the tests of tools.predict."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.sources.image_file import load_image, load_images
from tests.images import encode, png_of_size

ORANGE = (200, 100, 50)  # its gray is 124


def load(content: bytes, image_size: int = 8, channels: int = 3, fit: str = "pad") -> np.ndarray:
    return load_image(io.BytesIO(content), image_size, channels, fit)[0]


def bands() -> Image.Image:
    """An image of 40 x 20 pixels: 10 columns red, 20 green, 10 blue."""
    image = Image.new("RGB", (40, 20), (0, 255, 0))
    image.paste("red", (0, 0, 10, 20))
    image.paste("blue", (30, 0, 40, 20))
    return image


def letters(pixels: np.ndarray) -> str:
    """Return "r", "g" or "b" for each pixel of a row [width, 3], and " " for black."""
    return "".join("rgb"[pixel.argmax()] if pixel.max() > 127 else " " for pixel in pixels)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_every_format_is_read_as_rgb_or_gray(file_format: str) -> None:
    content = encode(Image.new("RGB", (60, 60), ORANGE), file_format)
    color, gray = load(content, channels=3), load(content, channels=1)
    assert (color.shape, color.dtype, gray.shape, gray.dtype) == ((8, 8, 3), np.uint8, (8, 8), np.uint8)
    assert [*map(int, color[4, 4]), int(gray[4, 4])] == pytest.approx(
        [200, 100, 50, 124], abs=2
    )  # JPEG and WebP lose a little


@pytest.mark.parametrize("mode", ["1", "LA", "P", "CMYK"])
def test_other_modes_become_rgb_or_gray(mode: str) -> None:
    content = encode(Image.new("RGB", (8, 8), "white").convert(mode), "TIFF")
    assert (np.unique(load(content)).tolist(), np.unique(load(content, channels=1)).tolist()) == ([255], [255])


@pytest.mark.parametrize(("order", "file_format"), [("<", "PNG"), ("<", "TIFF"), (">", "TIFF")])
def test_16_bits_are_scaled_to_8_in_both_byte_orders(order: str, file_format: str) -> None:
    gradient = np.linspace(0, 65_535, 900 * 1100).reshape(900, 1100).astype(f"{order}u2")
    image = Image.frombytes("I;16B" if order == ">" else "I;16", (1100, 900), gradient.tobytes())
    pixels = load(encode(image, file_format), 64, 1, "stretch")
    assert np.abs(pixels.mean(axis=1) - np.linspace(0, 255, 64)).max() < 4
    row = b"\0" + bytes([200, 200, 100, 100, 50, 50]) * 8  # two bytes per color, after the filter of the row
    assert load(png_of_size(8, 8, row * 8, bits=16, color=2))[4, 4].tolist() == [200, 100, 50]


@pytest.mark.parametrize(
    ("content", "green"),
    [
        (encode(Image.new("RGBA", (8, 8), (255, 0, 0, 128)), "WEBP", lossless=True), 127),
        (encode(Image.new("LA", (8, 8), (0, 0)), "PNG"), 255),
        (encode(Image.new("RGB", (8, 8), "red").quantize(2), "PNG", transparency=b"\x80\x80"), 127),
        (encode(Image.new("L", (8, 8), 0), "PNG", transparency=0), 255),
        (encode(Image.fromarray(np.full((8, 8), 1000, np.uint16)), "PNG", transparency=1000), 255),
    ],
)
def test_transparent_pixels_are_mixed_with_white(content: bytes, green: int) -> None:
    assert load(content)[4, 4].tolist() == [255, green, green]


@pytest.mark.parametrize(
    ("fit", "top", "middle"),
    [
        ("pad", "        ", "rrggggbb"),  # black above and below
        ("crop", "gggggggg", "gggggggg"),  # the center
        ("stretch", "rrggggbb", "rrggggbb"),
    ],
)
def test_fit_pads_crops_or_stretches(fit: str, top: str, middle: str) -> None:
    image = load(encode(bands(), "PNG"), 8, 3, fit)
    assert (letters(image[0]), letters(image[4])) == (top, middle)


@pytest.mark.parametrize(
    ("fit", "height", "width"), [("pad", 1000, 1000), ("stretch", 1000, 1000), ("crop", 1000, 1000), ("crop", 64, 4000)]
)
def test_image_of_the_right_height_keeps_every_pixel(fit: str, height: int, width: int) -> None:
    """Also if it has more than 400 pixels on a side, or is a panorama that is cropped."""
    stripes = np.tile(np.array([0, 255], np.uint8), (height, width // 2))
    assert (load(encode(Image.fromarray(stripes), "PNG"), height, 1, fit) == stripes[:, :height]).all()


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_applied_and_the_size_is_that_after_it(file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise by 90 degrees: left becomes top
    image, size = load_image(io.BytesIO(encode(bands(), file_format, exif=exif)), 8, 3, "stretch")
    assert size == (20, 40)
    assert letters(image[:, 4]) == "rrggggbb"


@pytest.mark.parametrize("mode", ["1", "P"])
def test_palette_and_1_bit_images_are_reduced_smoothly(mode: str) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (800, 400))
    image = load(encode(Image.fromarray(stripes).convert(mode), "PNG"), 100, 1)
    assert set(image[:, 1:-1].flat) <= {126, 127, 128, 129}


def test_jpeg_with_a_second_image_is_read() -> None:
    """Phones store a preview or a depth map."""
    both = encode(Image.new("L", (8, 8), 90), "MPO", save_all=True, append_images=[Image.new("L", (8, 8))])
    assert np.unique(load(both)).tolist() == [90]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (encode(Image.new("L", (4, 4)), "GIF"), "cannot identify image file"),
        (encode(Image.new("RGB", (300, 300)), "JPEG")[:-100], "truncated"),
        (png_of_size(6000, 5334, b""), "32004000 pixels.* exceeds limit of 32000000"),
        (encode(bands(), "PNG", save_all=True, append_images=[bands().rotate(9)]), "an animation or several pages"),
        (encode(Image.new("F", (8, 8), 0.5), "TIFF"), "32 bits per pixel, expected 8 or 16"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # Pillow warns about half as many pixels as it refuses
def test_other_formats_and_damaged_files_are_refused(content: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        load(content)


def test_load_images_returns_images_and_errors_in_order(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(200)]
    for number, file in enumerate(files):
        file.write_bytes(b"" if number in (7, 150) else encode(Image.new("L", (8, 8), number), "PNG"))
    results = list(load_images(files, 8, 1, "pad"))
    assert [number for number, result in enumerate(results) if isinstance(result, ValueError)] == [7, 150]
    assert all(results[number][0][0, 0] == number for number in range(200) if number not in (7, 150))
