"""Image files, read safely, and a photo or scan of one digit, brought to the form of MNIST."""

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFilter, ImageOps

LARGEST = 32_000_000  # pixels of a file that is read at all: with an alpha channel they take 128 MB, twice
Image.MAX_IMAGE_PIXELS = LARGEST  # Pillow warns beyond it, and that becomes the error
WORKING_SIZE = 400  # pixels on the longer side, at which the digit is looked for
CONTRAST = 40  # grey values, of 255, that a digit must differ from its background by
INK = 0.35  # share of the strongest ink from which on a pixel belongs to the digit's box
BOX, FIELD = 20, 28  # pixels on a side: the digit's, and the image's


def read_image(file: Path | BinaryIO) -> Image.Image:
    """The grey picture of a PNG or JPEG file, upright, at most 400 pixels on a side, transparent parts white.

    Raises ValueError that says what is wrong: another format, too many pixels, an animated PNG, a damaged file.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of damaged metadata
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(file, formats=("PNG", "JPEG")) as image:
                if image.format == "PNG" and getattr(image, "n_frames", 1) > 1:
                    raise ValueError("an animation, expected one picture")
                image.draft("L", (WORKING_SIZE, WORKING_SIZE))  # a JPEG is decoded at an eighth, where that is enough
                gap = None if image.mode.startswith("I") else 2  # Pillow cannot reduce 16 bits a pixel
                image.thumbnail((WORKING_SIZE, WORKING_SIZE), reducing_gap=gap)
                upright = ImageOps.exif_transpose(image)
        except Exception as error:  # Pillow's readers fail in many ways where the file is damaged
            raise ValueError(str(error) or type(error).__name__) from None
    if upright.mode.startswith("I"):  # 16 bits a pixel
        upright = Image.fromarray((np.asarray(upright) / 257).astype(np.uint8))
    paper = Image.new("RGBA", upright.size, "white")
    return Image.alpha_composite(paper, upright.convert("RGBA")).convert("L")


def to_image(picture: Image.Image) -> np.ndarray:
    """The whole picture as it is, uint8 [28, 28], its shape kept, on black."""
    return np.asarray(ImageOps.pad(picture, (FIELD, FIELD), color=0))


def to_digit(picture: Image.Image) -> np.ndarray:
    """The digit as MNIST has it, uint8 [28, 28]: white on black, fitted into 20 x 20 pixels, centred by its mass.

    The background is a plane through the margins, so that one side may lie in the shade; ink is what differs from it,
    darker or lighter. Raises ValueError where nothing does. Source of the form: LeCun et al., Gradient-Based Learning
    Applied to Document Recognition, 1998.
    """
    grey = np.asarray(picture.filter(ImageFilter.MedianFilter(3)) if min(picture.size) > 60 else picture, float)
    ink = grey - _background(grey)
    ink = ink if ink.max() > -ink.min() else -ink
    strongest = ink.max()
    if strongest < CONTRAST:
        raise ValueError(f"nothing differs from the background by more than {strongest:.0f} of 255 grey values")
    ink = np.clip(ink / strongest, 0, 1)
    rows, columns = ((ink > INK).any(axis=axis).nonzero()[0] for axis in (1, 0))
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    scale = BOX / max(ink.shape)
    size = [max(1, round(side * scale)) for side in ink.shape[::-1]]
    small = np.asarray(Image.fromarray(ink.astype(np.float32)).resize(size, Image.Resampling.BOX))
    small = small / small.max()
    field = np.zeros((FIELD, FIELD))
    top, left = (
        int(np.clip(round(FIELD / 2 - center), 0, FIELD - side))
        for center, side in zip(_center(small), small.shape, strict=True)
    )
    field[top : top + small.shape[0], left : left + small.shape[1]] = small
    return (255 * field).round().astype(np.uint8)


def _background(grey: np.ndarray) -> np.ndarray:
    """The plane that fits the outer tenth of the picture best, without the tenth of it that lies farthest away."""
    height, width = grey.shape
    y, x = np.mgrid[0:height, 0:width]
    plane = np.stack([np.ones_like(grey), x / width, y / height], axis=-1)
    edge = np.minimum.reduce([x / width, y / height, 1 - (x + 1) / width, 1 - (y + 1) / height]) < 0.1
    chosen = edge
    for _ in range(3):
        factors = np.linalg.lstsq(plane[chosen], grey[chosen], rcond=None)[0]
        away = np.abs(grey - plane @ factors)
        chosen = edge & (away <= np.quantile(away[edge], 0.9))
    background: np.ndarray = plane @ factors
    return background


def _center(image: np.ndarray) -> list[float]:
    """Row and column of the centre of mass."""
    return [float(np.average(np.arange(side), weights=image.sum(1 - axis))) for axis, side in enumerate(image.shape)]
