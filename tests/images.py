"""Image files for tests: printed digits, photos of MNIST digits, and PNG headers with a false size."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from PIL import Image, ImageDraw, ImageFont

FONTS = Path(mpl.get_data_path()) / "fonts/ttf"


def encode(image: Image.Image, file_format: str, **options: Any) -> bytes:
    """Return the image as a file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def printed(
    text: str = "7", size: int = 300, ink: str = "black", paper: str = "white", font: str = "DejaVuSans.ttf"
) -> Image.Image:
    """Return a square image with text in its center."""
    image = Image.new("RGB", (size, size), paper)
    drawing = ImageDraw.Draw(image)
    drawing.text((size / 2, size / 2), text, ink, ImageFont.truetype(str(FONTS / font), size // 2), anchor="mm")
    return image


def photo(digit: np.ndarray, random: np.random.Generator, dark: bool = True) -> bytes:
    """Return an MNIST digit as a camera might record it: large, off-center, unevenly lit and noisy, as JPEG.

    Args:
        digit: uint8 [28, 28].
        random: the source of size, place, light and noise.
        dark: whether the digit is darker than its background.
    """
    side = int(random.integers(200, 700))
    ink = np.asarray(Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC), float) / 255
    top, right, bottom, left = (int(side * fraction) for fraction in random.uniform(0.05, 0.6, 4))
    ink = np.pad(ink, ((top, bottom), (left, right)))
    y, x = np.mgrid[0 : ink.shape[0], 0 : ink.shape[1]]
    slopes = random.uniform(-40, 40, 2)
    light = random.uniform(170, 230) + slopes[0] * x / ink.shape[1] + slopes[1] * y / ink.shape[0]
    noise = random.standard_normal(ink.shape, np.float32)
    gray = light * (1 - random.uniform(0.6, 0.9) * ink) + 4 * noise
    gray = np.clip(gray if dark else 255 - gray, 0, 255).astype(np.uint8)
    return encode(Image.fromarray(np.stack([gray] * 3, axis=-1)), "JPEG", quality=int(random.integers(60, 95)))


def png_of_size(width: int, height: int, pixels: bytes, bits: int = 8, color: int = 0) -> bytes:
    """Return a PNG file whose header claims this size, whatever the length of `pixels`. Color 0 is gray, 2 is RGB."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
