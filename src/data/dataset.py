"""Labeled images and their file format."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from src.data.tensor_file import explain_damage, load_tensors, save_tensors

SPLITS = ("train", "test")  # `src.training.hold_out` chooses validation images out of train

STATISTICS_PIXELS = 50_000_000  # of a block of images: 150 MB in color
OPTIONAL = ("sizes", "groups", "is_validation")


class Rows:
    """Some rows, by number, of an array that may be larger than the memory. Indexing reads the rows that it returns."""

    def __init__(self, images: "Images", rows: np.ndarray) -> None:
        self.array: np.ndarray = images.array if isinstance(images, Rows) else images
        self.rows: np.ndarray = images.rows[rows] if isinstance(images, Rows) else rows
        self.dtype, self.ndim, self.shape = self.array.dtype, self.array.ndim, (len(rows), *self.array.shape[1:])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> np.ndarray:
        return np.asarray(self.array[self.rows[index]])

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[number] for number in range(len(self)))


Images = np.ndarray | Rows  # uint8 [n, height, width] or [n, height, width, 3]


@dataclass(frozen=True)
class Dataset:
    """Labeled images, in memory or mapped from a file.

    Attributes:
        images: uint8 [n, height, width] for gray images, or [n, height, width, 3] for RGB; an array, or rows of one.
        labels: uint8 or uint16 [n], indices into `classes`.
        files: the path of each image in its source folder, or empty.
        sizes: uint32 [n, 2], width and height of each source image in pixels, or None.
        source: `prepare.dataset`, from which the images come.
        fit: `prepare.fit`, how files of images were fitted into squares.
        groups: int64 [n], the number of the group of each image (`prepare.group`), or None.
        is_validation: uint8 [n], 1 for the images of a given validation split, or None.
    """

    images: Images
    labels: np.ndarray
    classes: tuple[str, ...]
    files: tuple[str, ...] = ()
    sizes: np.ndarray | None = None
    source: str = "folder"
    fit: str = "pad"
    groups: np.ndarray | None = None
    is_validation: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check that images, labels and classes fit together. Raises ValueError."""
        if self.images.dtype != np.uint8 or (self.images.ndim != 3 and self.images.shape[3:] != (3,)):
            raise ValueError(
                f"images are {self.images.dtype} {list(self.images.shape)}, "
                "expected uint8 [n, height, width] or [n, height, width, 3]"
            )
        if self.labels.ndim != 1 or self.labels.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"labels are {self.labels.dtype} {list(self.labels.shape)}, expected uint8 or uint16 [n]")
        if len(self.images) != len(self.labels):
            raise ValueError(f"{len(self.labels):,} labels for {len(self.images):,} images")
        if len(self) and self.labels.max() >= len(self.classes):
            index = int(self.labels.argmax())
            raise ValueError(f"label {self.labels[index]} at index {index}, expected 0 to {len(self.classes) - 1}")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: np.ndarray | slice) -> "Dataset":
        """Return some of the images. An array of numbers copies no image: only indexing the result reads them."""
        images = Rows(self.images, index) if isinstance(index, np.ndarray) else self.images[index]
        files = tuple(np.array(self.files, object)[index]) if self.files else ()
        optional = {name: getattr(self, name) for name in OPTIONAL}
        parts: Any = {name: None if array is None else array[index] for name, array in optional.items()}
        return replace(self, images=images, labels=self.labels[index], files=files, **parts)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        _, height, width, *channels = self.images.shape
        return (channels[0] if channels else 1, height, width)

    @property
    def indices(self) -> np.ndarray:
        """The number of each image in the prepared file: int64 [n]. A slice does not keep them."""
        return self.images.rows if isinstance(self.images, Rows) else np.arange(len(self))

    def counts(self) -> np.ndarray:
        """Return the number of images per class: int64 [classes]."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def name(self, index: int) -> str:
        """Return the file of an image, or its index if it comes from no file."""
        return self.files[index] if self.files else str(index)


def split_path(prepared: Path, split: str) -> Path:
    """Return the file of one of `SPLITS` in the folder that the stage `prepare` writes."""
    return prepared / f"{split}.safetensors"


def save_split(prepared: Path, split: str, dataset: Dataset) -> None:
    """Write one of `SPLITS`."""
    arrays = {"images": dataset.images[:], "labels": dataset.labels}
    if dataset.files:  # not in the header, which is limited to 100 MB
        arrays["files"] = np.frombuffer("\0".join(dataset.files).encode(), np.uint8)
    arrays |= {name: array for name in OPTIONAL if (array := getattr(dataset, name)) is not None}
    metadata = {"classes": dataset.classes, "source": dataset.source, "fit": dataset.fit}
    save_tensors(split_path(prepared, split), arrays, metadata)


def load_split(prepared: Path, split: str) -> Dataset:
    """Map one of `SPLITS` into memory.

    Raises:
        PipelineError: the file is missing, damaged or not a data set.
    """
    path = split_path(prepared, split)
    with explain_damage("prepare", path, "a prepared data set"):
        arrays, metadata = load_tensors(path)
        names = arrays.pop("files", None)
        files = () if names is None else tuple(names.tobytes().decode().split("\0"))
        classes, source, fit = tuple(metadata["classes"]), metadata["source"], metadata["fit"]
        return Dataset(**arrays, classes=classes, files=files, source=source, fit=fit)


def pixel_statistics(images: Images) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel, for pixels from 0 to 1.

    Args:
        images: uint8 [n, height, width] or [n, height, width, 3].
    """
    counts = np.zeros((images.shape[3] if images.ndim == 4 else 1, 256), np.int64)
    size = max(1, STATISTICS_PIXELS // (images.shape[1] * images.shape[2]))
    for start in range(0, len(images), size):
        block = images[start : start + size]
        rows = block.reshape(len(block) * block.shape[1], *block.shape[2:])
        counts += np.reshape(Image.fromarray(rows).histogram(), counts.shape)  # 0.02 s for MNIST; np.bincount: 0.8 s
    values, total = np.arange(256) / 255, counts[0].sum()
    means = [float(values @ row / total) for row in counts]
    stds = [float(((values - mean) ** 2 @ row / total) ** 0.5) for row, mean in zip(counts, means, strict=True)]
    return means, stds
