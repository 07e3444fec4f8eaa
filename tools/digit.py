"""Find the digit in a photo or scan and convert it to the format of MNIST."""

import numpy as np
from PIL import Image, ImageFilter

IMAGE_SIZE = 28  # pixels of height and width in MNIST
DIGIT_SIDE = 20  # pixels of the digit's longer side in MNIST
MIN_CONTRAST = 40  # gray levels, of 255, between a digit and its background
INK_THRESHOLD = 0.35  # fraction of the strongest ink that makes a pixel part of the digit
MIN_MEDIAN_SIDE = 60  # pixels; in smaller images the median filter would erase thin strokes


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
    denoised = image.filter(ImageFilter.MedianFilter(3)) if min(image.size) > MIN_MEDIAN_SIDE else image
    gray = np.asarray(denoised, float)
    ink = gray - _fit_background(gray)
    if ink.max() <= -ink.min():  # the digit is darker than its background
        ink = -ink
    if ink.max() < MIN_CONTRAST:
        raise ValueError(f"nothing differs from the background by more than {ink.max():.0f} of 255 gray levels")
    digit = _crop_and_scale(np.clip(ink / ink.max(), 0, 1))
    return (255 * _center(digit)).round().astype(np.uint8)


def _fit_background(gray: np.ndarray) -> np.ndarray:
    """Return the plane that fits the outer tenth of the image best: float [height, width].

    The fit is repeated without the 10 % of the pixels that deviate most, in case the digit reaches the border.
    """
    height, width = gray.shape
    y, x = np.mgrid[0:height, 0:width]
    plane = np.stack([np.ones_like(gray), x / width, y / height], axis=-1)
    border = np.minimum.reduce([x / width, y / height, 1 - (x + 1) / width, 1 - (y + 1) / height]) < 0.1
    inliers = border
    for _ in range(3):
        coefficients = np.linalg.lstsq(plane[inliers], gray[inliers], rcond=None)[0]
        deviation = np.abs(gray - plane @ coefficients)
        inliers = border & (deviation <= np.quantile(deviation[border], 0.9))
    return np.asarray(plane @ coefficients)


def _crop_and_scale(ink: np.ndarray) -> np.ndarray:
    """Crop ink to the pixels above the threshold. Scale it to `DIGIT_SIDE` on its longer side, and its maximum to 1."""
    box = Image.fromarray(ink > INK_THRESHOLD).getbbox()
    cropped = Image.fromarray(ink.astype(np.float32)).crop(box)
    width, height = (max(1, round(side * DIGIT_SIDE / max(cropped.size))) for side in cropped.size)
    small = np.asarray(cropped.resize((width, height), Image.Resampling.BOX))
    return np.asarray(small / small.max(), float)


def _center(digit: np.ndarray) -> np.ndarray:
    """Place the digit on a black image [28, 28] so that its center of mass is in the middle."""
    padding = []
    for positions, side in zip(np.indices(digit.shape), digit.shape, strict=True):
        center = np.average(positions, weights=digit)
        before = int(np.clip(round(IMAGE_SIZE / 2 - center), 0, IMAGE_SIZE - side))
        padding.append((before, IMAGE_SIZE - side - before))
    return np.pad(digit, padding)
