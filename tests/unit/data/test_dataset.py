"""Labeled images and their file format."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from src.data.dataset import Dataset, Rows, load_split, pixel_statistics, save_split
from src.data.tensor_file import save_tensors
from src.runtime.errors import PipelineError
from tests.helpers import random_dataset

IMAGES = np.zeros((3, 28, 28), np.uint8)
LABELS = np.array([0, 1, 1], np.uint8)
PIXELS = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
SIZES = np.array([[40, 30], [8, 8], [640, 480]], np.uint32)
COLOR = Dataset(PIXELS, LABELS, ("a", "b"), ("a/1.png", "b/2.png", "b/é.jpg"), SIZES, "folder", "crop")


def test_dataset_has_a_length_a_shape_and_counts() -> None:
    data = Dataset(IMAGES, LABELS, ("a", "b", "c"))
    assert (len(data), data.image_shape, data.counts().tolist()) == (3, (1, 28, 28), [1, 2, 0])
    assert COLOR.image_shape == (3, 4, 5)


def test_index_selects_images_labels_files_and_sizes() -> None:
    part = COLOR[np.array([2, 0])]
    assert (part.images == COLOR.images[[2, 0]]).all()
    assert (part.labels.tolist(), part.files) == ([1, 0], ("b/é.jpg", "a/1.png"))
    assert part.sizes.tolist() == [[640, 480], [40, 30]]
    assert COLOR[1:].files == ("b/2.png", "b/é.jpg")
    assert (part.name(0), random_dataset(20).name(7)) == ("b/é.jpg", "7")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": IMAGES / 255}, "images are float64 [3, 28, 28], expected uint8 [n, height, width]"),
        ({"labels": LABELS.astype(int)}, "labels are int64 [3], expected uint8 or uint16 [n]"),
        ({"labels": LABELS[:2]}, "2 labels for 3 images"),
        ({"classes": ("a",)}, "label 1 at index 1, expected 0 to 0"),
    ],
)
def test_images_labels_classes_and_files_have_to_fit_together(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Dataset(**{"images": IMAGES, "labels": LABELS, "classes": ("a", "b", "c"), **changes})


@pytest.mark.parametrize("data", [COLOR, random_dataset(3)])
def test_saved_dataset_is_loaded_unchanged(tmp_path: Path, data: Dataset) -> None:
    save_split(tmp_path, "train", data)
    loaded = load_split(tmp_path, "train")
    for name in ("images", "labels", "classes", "files", "sizes", "source", "fit"):
        assert np.array_equal(getattr(loaded, name), getattr(data, name))


def test_many_file_names_do_not_exceed_the_limit_of_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.data.tensor_file.MAX_HEADER", 1000)
    files = tuple(f"a/{number}.png" for number in range(1000))
    data = Dataset(np.zeros((1000, 8, 8), np.uint8), np.zeros(1000, np.uint8), ("a",), files)
    save_split(tmp_path, "train", data)
    assert load_split(tmp_path, "train").files == files


def test_rows_of_rows_are_read_only_when_they_are_indexed() -> None:
    images = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    selected = Dataset(images, np.zeros(3, np.uint8), ("a",))[np.array([2, 0])][np.array([1])]
    assert isinstance(selected.images, Rows)
    assert selected.images.array is images
    assert selected.images[:].tolist() == [[[0, 1], [2, 3]]]
    assert [image.tolist() for image in selected.images] == [[[0, 1], [2, 3]]]


@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_statistics_equal_numpys(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images are read in blocks of 10."""
    monkeypatch.setattr("src.data.dataset.STATISTICS_PIXELS", 10 * 30 * 30)
    images = random_dataset(35, side=30, channels=channels).images
    pixels = images.reshape(-1, channels) / 255
    expected = np.array([pixels.mean(axis=0), pixels.std(axis=0)])
    assert np.array(pixel_statistics(images)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("classes", "message"), [({}, "'classes'"), ({"classes": ["a"]}, "label 1 at index 1")])
def test_foreign_content_is_an_error(tmp_path: Path, classes: dict[str, object], message: str) -> None:
    metadata = {"source": "mnist", "fit": "pad", **classes}
    save_tensors(tmp_path / "train.safetensors", {"images": IMAGES, "labels": LABELS}, metadata)
    with pytest.raises(PipelineError, match=f"is not a prepared data set: {message}"):
        load_split(tmp_path, "train")
