"""Labelled images in memory, and their file format."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.data.tensor_file import explain_damage, load_tensors, save_tensors

IMAGE_SIZE = 28  # height and width in pixels
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Dataset:
    """Labelled images.

    Attributes:
        images: uint8 [n, height, width], 0 to 255.
        labels: uint8 or uint16 [n], indices into `classes`.
        classes: the class names.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Check that images, labels and classes fit together. Raises ValueError."""
        if not all(isinstance(name, str) for name in self.classes) or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"class names are {list(self.classes)}, expected unique strings")
        if self.images.ndim != 3 or self.images.dtype != np.uint8:
            raise ValueError(
                f"images are {self.images.dtype} {list(self.images.shape)}, expected uint8 [n, height, width]"
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
        return Dataset(self.images[index], self.labels[index], self.classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an image."""
        return (1, self.images.shape[1], self.images.shape[2])

    def counts(self) -> np.ndarray:
        """Return the number of images per class: int64 [classes]."""
        return np.bincount(self.labels, minlength=len(self.classes))


def save_dataset(path: Path, dataset: Dataset) -> None:
    """Write one split."""
    save_tensors(path, {"images": dataset.images, "labels": dataset.labels}, {"classes": dataset.classes})


def load_dataset(path: Path) -> Dataset:
    """Read one split.

    Raises:
        PipelineError: the file is missing, damaged or not a data set.
    """
    with explain_damage("prepare", path, "a prepared data set"):
        arrays, metadata = load_tensors(path)
        return Dataset(arrays["images"], arrays["labels"], tuple(metadata["classes"]))


def load_split(folder: Path, split: str) -> Dataset:
    """Read one of `SPLITS` from the folder that the stage `prepare` writes. Raises PipelineError."""
    return load_dataset(folder / f"{split}.safetensors")
