"""Read image files safely and fit them into the size of the data set."""

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")
MAX_PIXELS = 32_000_000  # RGBA of this size takes 128 MB, and three copies are in memory
Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow warns above it, and refuses twice as many
warnings.filterwarnings("ignore", module="PIL")  # about damaged metadata; catch_warnings does not work in threads
BLOCK = 128  # images that are in memory at a time: 19 MB for 224 x 224 x 3
FITS: Any = {"pad": partial(ImageOps.pad, color="black"), "crop": ImageOps.fit, "stretch": Image.Image.resize}

Loaded = tuple[np.ndarray, tuple[int, int]]


def load_images(
    files: Sequence[Path | BinaryIO], image_size: int, channels: int, fit: str
) -> Iterator[Loaded | ValueError]:
    """Read files with all cores, in order: for each the result of `load_image`, or the error if it cannot be read.

    Threads are as fast as processes, because Pillow decodes and resizes without Python's global lock.
    """

    def load(file: Path | BinaryIO) -> Loaded | ValueError:
        try:
            return load_image(file, image_size, channels, fit)
        except ValueError as error:
            return error

    # before Python 3.13, ThreadPool() also counts cores that a container or taskset keeps from this process
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else None
    with ThreadPool(cores) as pool:
        for start in range(0, len(files), BLOCK):
            yield from pool.map(load, files[start : start + BLOCK], chunksize=4)


def load_image(file: Path | BinaryIO, image_size: int, channels: int, fit: str) -> Loaded:
    """Read an image file as a square of `image_size` pixels.

    Args:
        file: PNG, JPEG, WebP, BMP or TIFF.
        image_size: height and width.
        channels: 1 for gray, 3 for RGB.
        fit: pad (keep the aspect ratio, add black borders), crop (cut the center) or stretch.

    Returns:
        uint8 [image_size, image_size] or [image_size, image_size, 3], and width and height of the file's image.

    Raises:
        ValueError: an unsupported format, too many pixels, an animation, too narrow for pad, or a damaged file.
    """
    image, size = _decode(file, "L" if channels == 1 else "RGB", 4 * image_size)
    if fit == "pad" and min(size) * image_size < max(size) / 2:
        raise ValueError(f"{size[0]} x {size[1]} pixels, which is too narrow for prepare.fit pad")
    return np.asarray(FITS[fit](image, (image_size, image_size))), size


def _decode(file: Path | BinaryIO, mode: str, least: int) -> tuple[Image.Image, tuple[int, int]]:
    """Read an image, rotated by its EXIF orientation, with transparent pixels white, and its original size.

    Args:
        mode: "L" or "RGB".
        least: large JPEGs are decoded at 1/2, 1/4 or 1/8 of their size, which is faster, but with no side below this.
    """
    try:
        with Image.open(file, formats=FORMATS) as opened:
            if opened.format != "MPO" and getattr(opened, "n_frames", 1) > 1:  # a JPEG with a preview is MPO
                raise ValueError("an animation or several pages, expected a single image")
            if opened.mode in ("I", "F"):
                raise ValueError("32 bits per pixel, expected 8 or 16")
            width, height = opened.size
            opened.draft(mode, (least, least))
            opened.load()  # this already rotates a TIFF
            if opened.getexif().get(0x0112) in (5, 6, 7, 8):  # the orientation turns it by 90 degrees
                width, height = height, width
            ImageOps.exif_transpose(opened, in_place=True)
            image: Image.Image = _to_8_bit(opened) if opened.mode.startswith("I") else opened
            if image.has_transparency_data:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            return image if image.mode == mode else image.convert("RGB").convert(mode), (width, height)
    except Exception as error:  # damaged files make Pillow raise many types
        raise ValueError(str(error) or type(error).__name__) from None


def _to_8_bit(image: Image.Image) -> Image.Image:
    """Return a 16-bit image in mode "L", with its transparent gray value white."""
    pixels = np.asarray(image)
    gray = (pixels // 257).astype(np.uint8)
    gray[pixels == image.info.get("transparency", -1)] = 255
    return Image.fromarray(gray)
