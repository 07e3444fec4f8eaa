"""Labeled images and their file format."""

import re
from pathlib import Path

import numpy as np
import pytest

from src.data.dataset import SPLITS, Dataset, load_dataset, load_split, pixel_statistics, save_dataset
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
    assert Dataset(np.zeros((3, 20, 24, 3), np.uint8), LABELS, ("a", "b")).image_shape == (3, 20, 24)


def test_index_selects_images_and_labels() -> None:
    data = random_dataset(20)
    part = data[np.array([7, 3])]
    assert part.labels.tolist() == [7, 3]
    assert (part.images[0] == data.images[7]).all()
    assert len(data[5:]) == 15
    assert part.classes == data.classes


def with_files() -> Dataset:
    """Return three color images of files."""
    sizes = np.array([[40, 30], [8, 8], [640, 480]], np.uint32)
    images = np.arange(3 * 4 * 5 * 3, dtype=np.uint8).reshape(3, 4, 5, 3)
    return Dataset(images, LABELS, ("a", "b"), ("a/1.png", "b/2.png", "b/é.jpg"), sizes)


def test_index_selects_files_and_sizes() -> None:
    part = with_files()[np.array([2, 0])]
    assert part.files == ("b/é.jpg", "a/1.png")
    assert part.sizes.tolist() == [[640, 480], [40, 30]]
    assert with_files()[1:].files == ("b/2.png", "b/é.jpg")
    assert (random_dataset(3)[:1].files, random_dataset(3)[:1].sizes) == ((), None)


def test_name_of_an_image_is_its_file_or_its_index() -> None:
    assert [with_files().name(index) for index in (0, 2)] == ["a/1.png", "b/é.jpg"]
    assert random_dataset(20).name(7) == "7"


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
        (np.zeros((3, 8, 8, 4), np.uint8), LABELS, ("a", "b"), "images are uint8 [3, 8, 8, 4], expected uint8 [n, "),
        (np.zeros((3, 8, 8, 1), np.uint8), LABELS, ("a", "b"), "expected uint8 [n, height, width] or [n, height, wi"),
        (np.zeros((3, 8, 8, 3, 3), np.uint8), LABELS, ("a", "b"), "images are uint8 [3, 8, 8, 3, 3], expected"),
    ],
)
def test_images_labels_and_classes_have_to_fit_together(
    images: np.ndarray, labels: np.ndarray, classes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        Dataset(images, labels, classes)


def test_every_image_needs_a_file() -> None:
    with pytest.raises(ValueError, match="2 files for 3 images"):
        Dataset(IMAGES, LABELS, ("a", "b"), ("a/1.png", "b/2.png"))


def test_saved_files_and_sizes_are_loaded_unchanged(tmp_path: Path) -> None:
    data = with_files()
    save_dataset(tmp_path / "a.safetensors", data)
    loaded = load_dataset(tmp_path / "a.safetensors")
    assert (loaded.images == data.images).all()
    assert (loaded.files, loaded.classes) == (data.files, data.classes)
    assert (loaded.sizes.tolist(), loaded.sizes.dtype) == (data.sizes.tolist(), np.uint32)
    save_dataset(tmp_path / "b.safetensors", random_dataset(3))
    loaded = load_dataset(tmp_path / "b.safetensors")
    assert (loaded.files, loaded.sizes) == ((), None)


def test_many_file_names_do_not_exceed_the_limit_of_the_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("src.data.tensor_file.MAX_HEADER", 1000)
    files = tuple(f"a/{number}.png" for number in range(1000))
    data = Dataset(np.zeros((1000, 8, 8), np.uint8), np.zeros(1000, np.uint8), ("a",), files)
    save_dataset(tmp_path / "a.safetensors", data)
    assert load_dataset(tmp_path / "a.safetensors").files == files


@pytest.mark.parametrize("channels", [1, 3])
def test_pixel_statistics_equal_numpys(channels: int) -> None:
    """Also of images that are read in several blocks of 16 MB."""
    for data in (random_dataset(9, side=20, channels=channels), random_dataset(101, side=300, channels=channels)):
        pixels = data.images.reshape(-1, channels) / 255
        means, stds = pixel_statistics(data.images)
        assert means == pytest.approx(pixels.mean(axis=0).tolist(), rel=1e-9)
        assert stds == pytest.approx(pixels.std(axis=0).tolist(), rel=1e-9)


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
    with pytest.raises(PipelineError, match=r"train\.safetensors is not a prepared data set: not a file that this"):
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
