"""Labelled images and their file format."""

import re
from pathlib import Path

import numpy as np
import pytest

from src.data.dataset import SPLITS, Dataset, load_dataset, load_split, save_dataset
from src.data.tensor_file import save_tensors
from src.runtime.errors import PipelineError
from tests.helpers import random_dataset

IMAGES = np.zeros((3, 28, 28), np.uint8)
LABELS = np.array([0, 1, 1], np.uint8)


def test_dataset_has_a_length_a_shape_and_counts() -> None:
    data = Dataset(IMAGES, LABELS, ("a", "b", "c"))
    assert len(data) == 3
    assert data.image_shape == (1, 28, 28)
    assert data.counts().tolist() == [1, 2, 0]


def test_index_selects_images_and_labels() -> None:
    data = random_dataset(20)
    part = data[np.array([7, 3])]
    assert part.labels.tolist() == [7, 3]
    assert (part.images[0] == data.images[7]).all()
    assert len(data[5:]) == 15
    assert part.classes == data.classes


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (IMAGES, LABELS, ("a", "a"), "class names are ['a', 'a'], expected unique strings"),
        (IMAGES, LABELS, ("a", 1), "class names are ['a', 1], expected unique strings"),
        (IMAGES[0], LABELS, ("a", "b"), "images are uint8 [28, 28], expected uint8 [n, height, width]"),
        (IMAGES / 255, LABELS, ("a", "b"), "images are float64 [3, 28, 28], expected uint8 [n, height, width]"),
        (IMAGES, LABELS.astype(int), ("a", "b"), "labels are int64 [3], expected uint8 or uint16 [n]"),
        (IMAGES, LABELS[:2], ("a", "b"), "2 labels for 3 images"),
        (IMAGES, LABELS, ("a",), "label 1 at index 1, expected 0 to 0"),
    ],
)
def test_images_labels_and_classes_have_to_fit_together(
    images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Dataset(images, labels, classes)


def test_saved_dataset_is_loaded_unchanged(tmp_path: Path) -> None:
    data = random_dataset(20)
    save_dataset(tmp_path / "a.safetensors", data)
    loaded = load_dataset(tmp_path / "a.safetensors")
    assert (loaded.images == data.images).all()
    assert (loaded.labels == data.labels).all()
    assert loaded.classes == data.classes


def test_load_split_reads_the_file_of_the_split(tmp_path: Path) -> None:
    for count, split in enumerate(SPLITS, start=10):
        save_dataset(tmp_path / f"{split}.safetensors", random_dataset(count))
    assert [len(load_split(tmp_path, split)) for split in ("train", "validation", "test")] == [10, 11, 12]


def test_missing_file_names_the_stage_to_repeat(tmp_path: Path) -> None:
    with pytest.raises(PipelineError) as error:
        load_split(tmp_path, "train")
    assert str(error.value) == (
        f"error: {tmp_path}/train.safetensors is not a prepared data set: no such file\n"
        "hint: dvc repro --force --single-item prepare"
    )


def test_truncated_file_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "train.safetensors"
    save_dataset(path, random_dataset(20))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PipelineError, match=r"train\.safetensors is not a prepared data set: SafetensorError"):
        load_dataset(path)


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"images": IMAGES}, {"classes": ["a", "b"]}, "labels"),
        ({"images": IMAGES, "labels": LABELS}, {}, "classes"),
        ({"images": IMAGES, "labels": LABELS}, {"classes": 5}, "not iterable"),
        ({"images": IMAGES, "labels": LABELS}, {"classes": ["a"]}, "label 1 at index 1, expected 0 to 0"),
    ],
)
def test_foreign_content_is_an_error(
    tmp_path: Path, tensors: dict[str, np.ndarray], metadata: dict[str, object], message: str
) -> None:
    save_tensors(tmp_path / "a.safetensors", tensors, metadata)
    with pytest.raises(PipelineError, match=f"is not a prepared data set: .*{message}"):
        load_dataset(tmp_path / "a.safetensors")
