"""Read image files safely and fit them into the size of the data set."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps

from src.data.dataset import IMAGE_SIZE

MAX_PIXELS = 32_000_000  # RGBA of this size takes 128 MB, and two copies are in memory
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow warns above it, and read_image turns the warning into an error
MAX_SIDE = 400  # pixels of the longer side; larger images are reduced


def read_image(file: Path | BinaryIO) -> Image.Image:
    """Read a PNG or JPEG file as grayscale, rotated by its EXIF orientation, with transparent pixels white.

    Returns:
        An image of mode "L", at most 400 pixels on a side.

    Raises:
        ValueError: another format, too many pixels, an animation or a damaged file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about damaged metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=("PNG", "JPEG")) as opened:
                if opened.format == "PNG" and getattr(opened, "n_frames", 1) > 1:
                    raise ValueError("an animation, expected a single image")
                opened.draft("L", (MAX_SIDE, MAX_SIDE))  # decode large JPEGs at a fraction of their size
                gap = None if opened.mode.startswith("I") else 2  # Pillow cannot reduce 16-bit images
                opened.thumbnail((MAX_SIDE, MAX_SIDE), reducing_gap=gap)
                image = ImageOps.exif_transpose(opened)
        except Exception as error:  # damaged files make Pillow raise many types
            raise ValueError(str(error) or type(error).__name__) from None
    if image.mode.startswith("I"):  # 16 bits per pixel
        image = Image.fromarray((np.asarray(image) / 257).astype(np.uint8))
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("L")


def letterbox(image: Image.Image) -> np.ndarray:
    """Scale an image to fit 28 x 28 pixels, keep its aspect ratio, and fill the rest with black: uint8 [28, 28]."""
    return np.asarray(ImageOps.pad(image, (IMAGE_SIZE, IMAGE_SIZE), color=0))
