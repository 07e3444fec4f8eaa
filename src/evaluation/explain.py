"""Show which parts of an image cause a prediction."""

from itertools import product

import numpy as np
import torch

from src.models.inference import Classifier, predict

GRID = 8  # masked places per side; each image is evaluated 65 times: 64 times masked, once unmasked
MASK = 2  # side of a masked square, in steps of the grid


def occlusion(classifier: Classifier, images: np.ndarray, targets: np.ndarray, device: torch.device) -> np.ndarray:
    """Return by how much the probability of a class drops if a square of the image is masked: float32 [n, GRID, GRID].

    Works for any network, because it needs no gradients.
    Source: Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014.

    Args:
        classifier: a classifier on `device`. Masked pixels get the mean of its normalization.
        images: uint8 [n, height, width] or [n, height, width, 3].
        targets: integers [n], the class to explain for each image.
        device: where to compute.
    """
    mean = (255 * np.array(classifier.normalize.mean)).round()
    drops = np.zeros((len(images), GRID, GRID), np.float32)
    for image, target, drop in zip(images, targets, drops, strict=True):
        copies = np.repeat(image[None], GRID * GRID + 1, axis=0)  # one per masked place, and the last without a mask
        for copy, (row, column) in zip(copies, product(range(GRID), repeat=2), strict=False):
            top, bottom = (round((row + offset) / GRID * image.shape[0]) for offset in (-0.5, MASK - 0.5))
            left, right = (round((column + offset) / GRID * image.shape[1]) for offset in (-0.5, MASK - 0.5))
            copy[max(0, top) : bottom, max(0, left) : right] = mean
        probability = predict(classifier, copies, device)[:, int(target)].exp()
        drop[:] = (probability[-1] - probability[:-1]).view(GRID, GRID)
    return drops
