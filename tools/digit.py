"""Find the digit in a photo or scan and convert it to the format of MNIST."""

import numpy as np
from PIL import Image

IMAGE_SIZE = 28  # pixels of height and width in MNIST
DIGIT_SIDE = 20  # pixels of the digit's longer side in MNIST
MIN_CONTRAST = 40  # gray levels, of 255, between a digit and its background
INK_THRESHOLD = 0.35  # fraction of the strongest ink that makes a pixel part of the digit


def extract_digit(image: Image.Image) -> np.ndarray:
    """Convert a photo or scan of one digit to an MNIST image: uint8 [28, 28], white on black.

    Subtract the background, crop the digit, scale it to fit 20 x 20 pixels, and center it by its center of mass. The
    digit may be darker or lighter than its background, and the lighting may be uneven.

    Source of the format: LeCun et al., Gradient-Based Learning Applied to Document Recognition, 1998.

    Args:
        image: a grayscale image (mode "L").

    Raises:
        ValueError: nothing stands out from the background.
    """
    gray = np.asarray(image, float)
    # the background changes linearly from edge to edge
    top, bottom, left, right = (np.median(edge) for edge in (gray[0], gray[-1], gray[:, 0], gray[:, -1]))
    rows, columns = np.linspace(top, bottom, image.height), np.linspace(left, right, image.width)
    ink = gray - (rows[:, None] + columns - (top + bottom + left + right) / 4)
    if ink.max() < -ink.min():  # the digit is darker than its background
        ink = -ink
    if ink.max() < MIN_CONTRAST:
        raise ValueError(f"nothing differs from the background by more than {ink.max():.0f} of 255 gray levels")
    box = Image.fromarray(ink > INK_THRESHOLD * ink.max()).getbbox()
    digit = Image.fromarray(ink.clip(0).astype(np.float32)).crop(box)
    width, height = (max(1, round(side * DIGIT_SIDE / max(digit.size))) for side in digit.size)
    scaled = np.asarray(digit.resize((width, height), Image.Resampling.BOX))
    y, x = (round(IMAGE_SIZE / 2 - np.average(index, weights=scaled)) for index in np.indices(scaled.shape))
    result = Image.new("L", (IMAGE_SIZE, IMAGE_SIZE))
    result.paste(Image.fromarray((255 * scaled / scaled.max()).round().astype(np.uint8)), (x, y))
    return np.array(result)
