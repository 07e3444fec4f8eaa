"""Statistics of each split, and findings: copies, near copies, blank, dark and small images, rare classes."""

from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from src.data.dataset import Dataset, pixel_statistics
from src.params.inspect import InspectParams
from src.runtime.errors import PipelineError

DARK = 16  # gray levels; 16-bit files that hold 10- or 12-bit data stay below it
RARE = 10  # classes with fewer training images, or with less than a tenth of the largest class, are findings
THUMBNAIL = 16  # pixels per side; with 8, every 10th MNIST digit looks like another one, with 16 every 75th
SIMILAR = 0.99  # minimum correlation of near copies; 98 % of icons and their half-size JPEG copies reach it
SCALE = 4000  # of vectors of whole numbers, whose scalar products float32 then has exactly: they stay below 2**24
FLAT = 2  # standard deviation in gray levels; thumbnails with less have no near copies
BLOCK = 256  # images that are compared with all others at once: 100 MB for 100,000 images

FindingRows = list[tuple[str, str]]  # what was found (a file, index or class), and a detail
Findings = dict[tuple[str, str], FindingRows]  # by kind ("blank") and place ("train" or "train and test")


def audit(splits: Mapping[str, Dataset]) -> tuple[dict[str, Any], Findings]:
    """Measure each split, and list findings. Near copies are searched for only if the data set has files.

    Returns:
        The report, which is the content of metrics/inspect.json, and the findings, which the report counts by split and
        by pair of splits. Of a pair of copies, the later one is a finding.
    """
    findings: Findings = {}
    for name, split in splits.items():
        findings["blank", name] = find_blank(split)
        findings["rare_classes", name] = find_rare_classes(split, is_training=name == "train")
        if split.sizes is not None:  # the images come from files
            findings["small", name] = find_small(split, split.sizes)
            findings["dark", name] = find_dark(split)
    hashes = {name: [sha256(image.tobytes()).digest() for image in split.images] for name, split in splits.items()}
    vectors = {name: thumbnail_vectors(split.images) for name, split in splits.items() if split.files}
    for a, b in combinations_with_replacement(splits, 2):
        within = a == b
        kind, place = ("duplicates", a) if within else ("cross_split_duplicates", f"{a} and {b}")
        copies = find_copies(hashes[a], hashes[b], within)
        findings[kind, place] = name_pairs(splits[a], splits[b], copies, "equals")
        if a in vectors and b in vectors:
            near = find_similar(vectors[a], vectors[b], within)
            near = {index: match for index, match in near.items() if index not in copies}
            findings[f"near_{kind}", place] = name_pairs(splits[a], splits[b], near, "resembles")

    report: dict[str, Any] = {"classes": list(next(iter(splits.values())).classes)}
    for name, split in splits.items():
        report[name] = _measure(split, {kind: len(rows) for (kind, place), rows in findings.items() if place == name})
    for (kind, place), rows in findings.items():
        if place not in splits:
            report.setdefault(kind, {})[place] = len(rows)
    return report, findings


def find_blank(split: Dataset) -> FindingRows:
    """Return the images of one value."""
    return [(split.name(index), "") for index, image in enumerate(split.images) if (image == image[0, 0]).all()]


def find_rare_classes(split: Dataset, is_training: bool) -> FindingRows:
    """Return the classes with few training images, or without any image."""
    counts = split.counts()
    least = max(RARE, counts.max() / 10) if is_training else 1
    return [(split.classes[label], f"images: {counts[label]}") for label in np.flatnonzero(counts < least)]


def find_small(split: Dataset, sizes: np.ndarray) -> FindingRows:
    """Return the images whose longer side, of sizes uint32 [n, 2], is less than half of image_size."""
    small = np.flatnonzero(sizes.max(axis=1) * 2 < split.image_shape[1]).tolist()
    return [(split.name(index), "{} x {} pixels".format(*sizes[index])) for index in small]


def find_dark(split: Dataset) -> FindingRows:
    """Return the images without a bright pixel."""
    largest = enumerate(image.max() for image in split.images)
    return [(split.name(index), f"largest value {value} of 255") for index, value in largest if value < DARK]


def name_pairs(first: Dataset, second: Dataset, matches: Mapping[int, int], verb: str) -> FindingRows:
    """Return images of `second` and the images of `first` that they equal or resemble."""
    return [(second.name(index), f"{verb} {first.name(match)}") for index, match in matches.items()]


def find_copies(first: list[bytes], second: list[bytes], within: bool) -> dict[int, int]:
    """Map the index of each item of `second` that is in `first` to its first index there.

    Args:
        within: `first` and `second` are the same list; only earlier items count.
    """
    positions = {item: index for index, item in reversed(list(enumerate(first)))}
    matches = {index: positions[item] for index, item in enumerate(second) if item in positions}
    return {index: match for index, match in matches.items() if not within or match < index}


def thumbnail_vectors(images: Iterable[np.ndarray]) -> np.ndarray:
    """Return vectors whose scalar products are the correlations of the thumbnails, times `SCALE` squared.

    They are whole numbers, so that the products are the same on every processor. Brightness and contrast do not change
    a correlation. Flat images get shorter vectors, and so no high correlation.

    Args:
        images: uint8 [height, width] or [height, width, 3] each.

    Returns:
        float32 [n, pixels of a thumbnail].
    """
    small = [Image.fromarray(image).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX) for image in images]
    vectors = np.array([np.asarray(image).ravel() for image in small], np.float32)
    vectors -= vectors.mean(axis=1, keepdims=True)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors *= SCALE / length.clip(min=FLAT * vectors.shape[1] ** 0.5)
    return vectors.round()


def find_similar(first: np.ndarray, second: np.ndarray, within: bool) -> dict[int, int]:
    """Map the index of each thumbnail of `second` that resembles one of `first` to the index of the most similar one.

    Args:
        first: float32 [m, pixels], from `thumbnail_vectors`.
        second: float32 [n, pixels].
        within: `first` and `second` are the same list; only earlier items count.
    """
    matches: dict[int, int] = {}
    for start in tqdm(range(0, len(second), BLOCK), "comparing", leave=False, disable=None):
        similarity = second[start : start + BLOCK] @ (first[: start + BLOCK] if within else first).T
        if within:  # an image does not resemble itself or later images
            similarity[:, start:] = np.tril(similarity[:, start:], -1)
        best = similarity.argmax(axis=1)
        found = np.flatnonzero(similarity[np.arange(len(best)), best] >= SIMILAR * SCALE**2)
        matches |= {start + int(row): int(best[row]) for row in found}
    return matches


def _measure(split: Dataset, counts: Mapping[str, int]) -> dict[str, Any]:
    """Return the statistics of one split, with its findings counted."""
    mean, std = pixel_statistics(split.images)
    return {
        "images": len(split),
        "shape": list(split.images.shape[1:]),
        "mean": mean,
        "std": std,
        **counts,
        "class_counts": split.counts().tolist(),
    }


def check_audit(findings: Findings, settings: InspectParams, source: object) -> None:
    """Check the findings of `audit`.

    Args:
        source: the folder of the data, for the error message.

    Raises:
        PipelineError: names each problem, its first three files, and the parameters that accept it.
    """
    problems, options = [], ""
    for kind, what in {"blank": "blank images", "cross_split_duplicates": "exact copies of images"}.items():
        limit = getattr(settings, f"max_{kind}")
        refused = {place: rows for (key, place), rows in findings.items() if key == kind and len(rows) > limit}
        for place, rows in refused.items():
            names = ", ".join(f"{file} {detail}".strip() for file, detail in rows[:3]) + ", ..." * (len(rows) > 3)
            problems.append(f"{place}: {len(rows):,} {what}, expected at most {limit}: {names}")
        if refused:
            options += f" -S inspect.max_{kind}={max(map(len, refused.values()))}"
    if problems:
        message = "\n".join([f"the audit of {source} failed:", *problems])
        raise PipelineError(message, f"dvc exp run{options}   # accepts this")
