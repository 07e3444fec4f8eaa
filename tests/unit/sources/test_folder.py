"""Folders of images, and the mistakes that they have."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.runtime.errors import PipelineError
from src.sources.folder import read_folder

CLASSES = ("bird", "cat & dog", "émeu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images per class, PNG and JPEG, gray and RGB."""
    for index, name in enumerate(CLASSES):
        (tmp_path / name).mkdir()
        Image.new("L", (28, 28), 50 * index).save(tmp_path / name / "0.png")
        Image.new("RGB", (60, 60), (200, 200, 200)).save(tmp_path / name / "1.jpeg")
    return tmp_path


def test_images_are_read_in_the_order_of_their_names(folder: Path) -> None:
    dataset = read_folder(folder)
    assert dataset.classes == CLASSES
    assert dataset.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert dataset.images.shape == (6, 28, 28)
    assert dataset.images[:, 14, 14].tolist() == [0, 200, 50, 200, 100, 200]


def test_hidden_files_and_folders_are_ignored(folder: Path) -> None:
    (folder / "bird/.DS_Store").write_bytes(b"")
    (folder / ".ipynb_checkpoints").mkdir()
    assert (len(read_folder(folder)), read_folder(folder).classes) == (6, CLASSES)


@pytest.mark.parametrize(("classes", "dtype"), [(256, np.uint8), (257, np.uint16)])
def test_label_dtype_fits_the_number_of_classes(tmp_path: Path, classes: int, dtype: type) -> None:
    for number in range(classes):
        (tmp_path / f"{number:03}").mkdir()
        Image.new("L", (28, 28), number % 256).save(tmp_path / f"{number:03}" / "image.png")
    dataset = read_folder(tmp_path)
    assert (dataset.labels.tolist(), dataset.labels.dtype) == (list(range(classes)), dtype)


@pytest.mark.parametrize(
    ("name", "content"), [("notes.txt", b"seen on Tuesday"), ("empty.png", b""), ("cut.png", b"\x89PNG\r\n\x1a\n")]
)
def test_file_that_is_not_an_image_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / "bird" / name).write_bytes(content)
    with pytest.raises(PipelineError, match="is not a readable PNG or JPEG image: cannot identify") as error:
        read_folder(folder)
    assert str(error.value).startswith(f"error: {folder / 'bird' / name} ")


@pytest.mark.parametrize("name", [".", "missing"])
def test_folder_without_classes_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PipelineError, match="has 0 folders, expected one per class, at least two"):
        read_folder(tmp_path / name)


def test_class_without_images_is_named(folder: Path) -> None:
    (folder / "owl").mkdir()
    with pytest.raises(PipelineError, match="owl has no files, expected the images of that class"):
        read_folder(folder)
