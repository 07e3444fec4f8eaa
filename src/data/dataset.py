"""A labelled set of images in memory, and its file."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.data.tensor_file import load_tensors, save_tensors, written_by

IMAGE = (28, 28)  # pixels: height and width that the networks read


@dataclass(frozen=True)
class Dataset:
    """`images` uint8 [n, height, width], `labels` uint8 or uint16 [n], the position of each one's name in `classes`."""

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raises ValueError where images, labels and classes do not fit together."""
        if not all(isinstance(name, str) for name in self.classes) or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"class names {list(self.classes)}, expected different texts")
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

    def counts(self) -> np.ndarray:
        """Images of each class: int64 [classes]."""
        return np.bincount(self.labels, minlength=len(self.classes))


def save_dataset(path: Path, dataset: Dataset) -> None:
    """Write one split."""
    save_tensors(path, {"images": dataset.images, "labels": dataset.labels}, {"classes": dataset.classes})


def load_dataset(path: Path) -> Dataset:
    """Read one split; raises PipelineError when the file is missing, damaged or of another kind."""
    with written_by("prepare", path, "a prepared data set"):
        arrays, about = load_tensors(path)
        return Dataset(arrays["images"], arrays["labels"], tuple(about["classes"]))
