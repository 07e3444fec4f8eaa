"""How image files become squares of pixels. Hostile files are in the tests of tools.predict."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.sources.image_file import load_image, load_images, read_image
from tests.helpers import ROOT, run
from tests.images import encode, png_of_size

ORANGE = (200, 100, 50)  # its gray is 124


def load(content: bytes, image_size: int = 8, channels: int = 3, fit: str = "pad") -> np.ndarray:
    return load_image(io.BytesIO(content), image_size, channels, fit)[0]


def left_and_right(width: int = 40, height: int = 20) -> Image.Image:
    """The left half is red, the right half is blue."""
    image = Image.new("RGB", (width, height), "red")
    image.paste("blue", (width // 2, 0, width, height))
    return image


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
def test_every_format_is_read_as_rgb_or_gray(file_format: str) -> None:
    content = encode(Image.new("RGB", (60, 60), ORANGE), file_format)
    color, gray = load(content, channels=3), load(content, channels=1)
    assert (color.shape, color.dtype, gray.shape, gray.dtype) == ((8, 8, 3), np.uint8, (8, 8), np.uint8)
    assert np.abs(color - np.array(ORANGE, int)).max() <= 2  # JPEG and WebP lose a little
    assert np.abs(gray - 124.0).max() <= 2


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_of_png_is_read(mode: str) -> None:
    content = encode(Image.new("RGB", (8, 8), "white").convert(mode), "PNG")
    assert (np.unique(load(content)).tolist(), np.unique(load(content, channels=1)).tolist()) == ([255], [255])


@pytest.mark.parametrize("file_format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(file_format: str) -> None:
    content = encode(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), file_format, quality=100)
    assert np.abs(load(content)[4, 4] - np.array([255, 0, 0])).max() <= 2


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_16_bits_are_scaled_to_8(file_format: str, dtype: str) -> None:
    image = Image.fromarray(np.full((40, 40), 128 * 257, dtype))
    assert np.unique(load(encode(image, file_format))).tolist() == [128]


def test_16_bits_per_color_are_scaled_to_8() -> None:
    row = b"\0" + bytes([200, 200, 100, 100, 50, 50]) * 8  # two bytes per color, after the filter of the row
    assert load(png_of_size(8, 8, row * 8, bits=16, color=2))[4, 4].tolist() == [200, 100, 50]


def test_32_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="32 bits per pixel, expected 8 or 16"):
        load(encode(Image.new("F", (8, 8), 0.5), "TIFF"))


@pytest.mark.parametrize(
    "content",
    [
        encode(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG"),
        encode(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "WEBP"),
        encode(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "TIFF"),
        encode(Image.new("LA", (8, 8), (0, 0)), "PNG"),
        encode(Image.new("RGB", (8, 8)).quantize(2), "PNG", transparency=0),
        encode(Image.new("L", (8, 8), 0), "PNG", transparency=0),
        encode(Image.fromarray(np.full((8, 8), 1000, np.uint16)), "PNG", transparency=1000),
    ],
)
def test_transparent_pixels_are_white(content: bytes) -> None:
    assert np.unique(load(content)).tolist() == [255]


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    assert load(encode(Image.new("RGBA", (8, 8), (255, 0, 0, 128)), "PNG"))[4, 4].tolist() == [255, 127, 127]


@pytest.mark.parametrize(
    ("fit", "top", "middle"),
    [
        ("pad", "        ", "rrrrbbbb"),  # black above and below
        ("crop", "rrrrbbbb", "rrrrbbbb"),
        ("stretch", "rrrrbbbb", "rrrrbbbb"),
    ],
)
def test_fit_pads_crops_or_stretches(fit: str, top: str, middle: str) -> None:
    image = load(encode(left_and_right(), "PNG"), 8, 3, fit)
    letters = np.array([" ", "r", "b"])[(image > 127) @ np.array([1, 0, 2])]
    assert ("".join(letters[0]), "".join(letters[4])) == (top, middle)


def test_crop_cuts_the_center_and_stretch_keeps_all() -> None:
    image = Image.new("L", (40, 20))
    image.paste(255, (0, 0, 5, 20))  # a white bar at the left
    content = encode(image, "PNG")
    assert load(content, 8, 1, "crop").max() == 0
    assert load(content, 8, 1, "stretch")[:, 0].min() > 200


def test_pad_keeps_the_aspect_ratio_and_fills_with_black() -> None:
    image = load(encode(Image.new("L", (10, 40), 255), "PNG"), 28, 1)
    assert image.max(axis=0).nonzero()[0].tolist() == list(range(10, 17))  # the middle 7 of 28 columns


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_images_of_the_right_size_keep_every_pixel(fit: str) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (1000, 500))  # larger than 400 pixels
    assert (load(encode(Image.fromarray(stripes), "PNG"), 1000, 1, fit) == stripes).all()


def test_crop_of_a_panorama_keeps_its_resolution() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 2000))
    assert (load(encode(Image.fromarray(stripes), "PNG"), 64, 1, "crop") == stripes[:, :64]).all()


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_applied_and_the_size_is_that_after_it(file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate clockwise by 90 degrees: left becomes top
    image, size = load_image(io.BytesIO(encode(left_and_right(), file_format, exif=exif)), 8, 3, "stretch")
    assert size == (20, 40)
    assert [image[1, 4].argmax(), image[6, 4].argmax()] == [0, 2]  # red above blue


def test_size_is_that_of_the_file() -> None:
    assert load_image(io.BytesIO(encode(Image.new("L", (2000, 1000)), "JPEG")), 8, 1, "pad")[1] == (2000, 1000)


def test_read_image_returns_gray_of_at_most_400_pixels() -> None:
    image = read_image(io.BytesIO(encode(Image.new("RGB", (2000, 1000), ORANGE), "PNG")))
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("L", (400, 200), 124)


@pytest.mark.parametrize("mode", ["1", "P"])
def test_large_palette_and_1_bit_images_are_reduced_smoothly(mode: str) -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (800, 400))
    image = read_image(io.BytesIO(encode(Image.fromarray(stripes).convert(mode), "PNG")))
    assert set(np.asarray(image)[:, 1:-1].flat) <= {126, 127, 128, 129}


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "TIFF"])
def test_animations_and_several_pages_are_refused(file_format: str) -> None:
    pages: dict[str, Any] = {"save_all": True, "append_images": [Image.new("L", (8, 8), 255)]}
    with pytest.raises(ValueError, match="an animation or several pages, expected a single image"):
        load(encode(Image.new("L", (8, 8)), file_format, **pages))


def test_jpeg_with_a_second_image_is_read() -> None:
    """Phones store a preview or a depth map."""
    both = encode(Image.new("L", (8, 8), 90), "MPO", save_all=True, append_images=[Image.new("L", (8, 8))])
    assert np.unique(load(both)).tolist() == [90]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (encode(Image.new("L", (4, 4)), "GIF"), "cannot identify image file"),
        (b"", "cannot identify image file"),
        (encode(Image.new("RGB", (300, 300)), "JPEG")[:-100], "truncated"),
        (png_of_size(6000, 5334, b""), "32004000 pixels.* exceeds limit of 32000000"),
    ],
)
def test_other_formats_and_damaged_files_are_refused(content: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        load(content)


def test_damaged_metadata_causes_no_warning(tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0"  # announces five entries
    (tmp_path / "image.jpg").write_bytes(encode(Image.new("L", (8, 8), 90), "JPEG", exif=exif))
    code = "import sys; from src.sources.image_file import *; print(read_image(Path(sys.argv[1])).getpixel((0, 0)))"
    done = run(["python", "-W", "error", "-c", code, str(tmp_path / "image.jpg")], ROOT)
    assert (done.stdout, done.stderr) == ("90\n", "")


def test_load_images_returns_images_and_errors_in_order(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(300)]
    for number, file in enumerate(files):
        file.write_bytes(b"" if number in (7, 250) else encode(Image.new("L", (8, 8), number % 256), "PNG"))
    results = list(load_images(files, 8, 1, "pad"))
    assert [number for number, result in enumerate(results) if isinstance(result, ValueError)] == [7, 250]
    assert [result[0][0, 0] for result in results if isinstance(result, tuple)] == [
        number % 256 for number in range(300) if number not in (7, 250)
    ]


@pytest.mark.parametrize("order", ["<", ">"])
def test_large_16_bit_images_are_read_in_both_byte_orders(order: str, tmp_path: Path) -> None:
    gradient = np.linspace(0, 65_535, 900 * 1100).reshape(900, 1100)
    image = Image.fromarray(gradient.astype("u2"))
    if order == ">":
        image = Image.frombytes("I;16B", (1100, 900), gradient.astype(">u2").tobytes())
    image.save(tmp_path / "a.tiff")
    pixels, size = load_image(tmp_path / "a.tiff", 64, 1, "stretch")
    assert size == (1100, 900)
    expected = np.linspace(0, 255, 64)
    assert np.abs(pixels.mean(axis=1) - expected).max() < 4
