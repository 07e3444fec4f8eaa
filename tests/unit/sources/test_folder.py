"""Folders of images: what is read, how it is split, and the mistakes that they have."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.data.dataset import Dataset
from src.params import Params
from src.runtime.errors import PipelineError
from src.sources.folder import read_folder

Splits = tuple[Dataset, Dataset, Dataset]
Read = Callable[..., Splits]


@pytest.fixture
def read(tmp_path: Path, params: Params) -> Read:
    """Read `tmp_path`/images with other parameters of the section `prepare`."""

    def read(**changes: Any) -> Splits:
        defaults = {"dataset": "folder", "test": 0.25, "validation": 2}
        settings = params.prepare.model_copy(update={**defaults, **changes})
        return read_folder(tmp_path / "images", settings, tmp_path / "prepared")

    return read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "images"


def write(folder: Path, *files: str) -> None:
    """Write images of 28 x 28 pixels. The first has the gray value 0, the next 1 ..."""
    for value, file in enumerate(files):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), value).save(folder / file)


def names(name: str, count: int) -> list[str]:
    return [f"{name}/{number}.png" for number in range(count)]


def is_empty(folder: Path) -> bool:
    return not folder.exists() or not list(folder.iterdir())


def test_each_split_has_its_files_in_order_with_their_images_and_labels(folder: Path, read: Read) -> None:
    write(folder, *names("cat", 10), *names("dog", 6))
    train, validation, test = read(validation=3)
    assert train.classes == validation.classes == test.classes == ("cat", "dog")
    assert train.files == tuple(f"cat/{n}.png" for n in (0, 1, 2, 3, 8)) + tuple(f"dog/{n}.png" for n in (1, 3, 4, 5))
    assert train.images[:, 14, 14].tolist() == [0, 1, 2, 3, 8, 11, 13, 14, 15]
    assert train.labels.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
    assert validation.images[:, 14, 14].tolist() == [4, 7, 12]
    assert test.images[:, 14, 14].tolist() == [5, 6, 9, 10]


def test_images_have_the_size_and_channels_of_the_parameters(folder: Path, read: Read) -> None:
    write(folder, *names("cat", 4), *names("dog", 4))
    Image.new("RGB", (60, 30), (200, 100, 50)).save(folder / "cat/0.png")
    splits = read(image_size=48, channels=3, fit="stretch", validation=2)
    assert [split.images.shape for split in splits] == [(4, 48, 48, 3), (2, 48, 48, 3), (2, 48, 48, 3)]
    (split,) = (split for split in splits if "cat/0.png" in split.files)
    index = split.files.index("cat/0.png")
    assert split.images[index, 24, 24].tolist() == [200, 100, 50]


def test_original_sizes_are_recorded(folder: Path, read: Read) -> None:
    write(folder, *names("cat", 4), *names("dog", 4))
    Image.new("L", (60, 30)).save(folder / "dog/2.png")
    sizes = {file: size.tolist() for split in read() for file, size in zip(split.files, split.sizes, strict=True)}
    assert sizes["dog/2.png"] == [60, 30]
    assert sizes["dog/3.png"] == [28, 28]
    assert {split.sizes.dtype for split in read()} == {np.dtype(np.uint32)}


def test_without_validation_images_the_test_images_are_used(folder: Path, read: Read) -> None:
    write(folder, *names("cat", 4), *names("dog", 4))
    train, validation, test = read(validation=0)
    assert (len(train), validation.files, len(test)) == (6, test.files, 2)


def test_images_are_mapped_from_a_file_that_no_folder_lists(folder: Path, read: Read, tmp_path: Path) -> None:
    write(folder, *names("cat", 4), *names("dog", 4))
    images = read()[0].images
    assert not images.flags.writeable
    assert is_empty(tmp_path / "prepared")
    assert str(tmp_path / "prepared") in Path("/proc/self/maps").read_text()


def test_files_of_the_system_and_hidden_folders_are_ignored(folder: Path, read: Read) -> None:
    write(folder, *names("cat", 4), *names("dog", 4))
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / "cat" / name).write_bytes(b"")
    (folder / ".ipynb_checkpoints").mkdir()
    splits = read()
    assert (sum(map(len, splits)), splits[0].classes) == (8, ("cat", "dog"))


@pytest.mark.parametrize(("classes", "dtype"), [(256, np.uint8), (257, np.uint16)])
def test_label_dtype_fits_the_number_of_classes(folder: Path, read: Read, classes: int, dtype: type) -> None:
    write(folder)
    for number in range(classes):
        (folder / f"{number:03}").mkdir(parents=True)
        for name in ("a.png", "b.png"):
            Image.new("L", (1, 1)).save(folder / f"{number:03}" / name)
    train, _, _ = read(test=0.5, validation=0)
    assert (train.labels.tolist(), train.labels.dtype) == (list(range(classes)), dtype)


@pytest.mark.parametrize("validation_folder", ["val", "validation"])
def test_splits_of_a_folder_are_kept(folder: Path, read: Read, validation_folder: str) -> None:
    write(folder, *names("train/cat", 3), *names("train/dog", 2))
    write(folder, *names(f"{validation_folder}/cat", 1), *names(f"{validation_folder}/dog", 2))
    write(folder, *names("test/cat", 2), *names("test/dog", 1))
    train, validation, test = read()
    assert train.files == (
        "train/cat/0.png",
        "train/cat/1.png",
        "train/cat/2.png",
        "train/dog/0.png",
        "train/dog/1.png",
    )
    assert validation.files == tuple(f"{validation_folder}/{name}" for name in ("cat/0.png", "dog/0.png", "dog/1.png"))
    assert test.files == ("test/cat/0.png", "test/cat/1.png", "test/dog/0.png")
    assert [split.labels.tolist() for split in (train, validation, test)] == [[0, 0, 0, 1, 1], [0, 1, 1], [0, 0, 1]]
    assert test.classes == ("cat", "dog")


def test_validation_images_are_held_out_of_the_folder_train(folder: Path, read: Read) -> None:
    write(folder, *names("train/cat", 10), *names("train/dog", 10), *names("test/cat", 2), *names("test/dog", 2))
    train, validation, test = read(validation=4)
    assert (train.counts().tolist(), validation.counts().tolist(), test.counts().tolist()) == ([8, 8], [2, 2], [2, 2])
    assert set(train.files + validation.files) == {*names("train/cat", 10), *names("train/dog", 10)}


def test_class_that_train_lacks_is_named(folder: Path, read: Read) -> None:
    write(folder, *names("train/cat", 2), *names("train/dog", 2), *names("test/cat", 2), *names("test/owl", 2))
    with pytest.raises(PipelineError, match="has images of class owl in val or test, but none in train"):
        read()


def test_classes_named_train_and_bus_are_classes(folder: Path, read: Read) -> None:
    write(folder, *names("train", 4), *names("bus", 4))
    assert read()[0].classes == ("bus", "train")


@pytest.mark.parametrize("group", [r"/(p\d+)-", r"p\d+"])
def test_images_of_a_group_stay_in_one_split(folder: Path, read: Read, group: str) -> None:
    """Patients have images of one class or of both."""
    patients = [(patient, "cat" if patient % 2 else "dog") for patient in range(20)]
    write(folder, *(f"{name}/p{patient}-{view}.png" for patient, name in patients for view in "abc"))
    write(folder, "cat/p0-d.png", "dog/p1-d.png")
    splits = read(group=group, validation=16)
    in_splits = [{file.split("/")[1].split("-")[0] for file in split.files} for split in splits]
    assert [len(patients) for patients in in_splits] == [10, 5, 5]  # 16 of 47 images in the 15 other groups: 5 groups
    assert len(set.union(*in_splits)) == 20
    assert sum(map(len, splits)) == 62
    assert all(split.counts().min() > 0 for split in splits)


def test_group_in_two_given_splits_is_refused(folder: Path, read: Read) -> None:
    write(folder, "train/cat/p1-a.png", "train/dog/p2-a.png", "train/dog/p3-a.png", "train/cat/p4-a.png")
    write(folder, "test/cat/p5-a.png", "test/dog/p3-b.png")
    with pytest.raises(
        PipelineError,
        match=r"prepare.group `p\\d` puts train/dog/p3-a.png and test/dog/p3-b.png into one group, but they are in two",
    ):
        read(group=r"p\d")
    assert len(read(group=r"p\d-.")[2]) == 2


def test_groups_may_contain_every_class(folder: Path, read: Read) -> None:
    write(folder, *(f"{side}/patient{number}.png" for side in ("left", "right") for number in range(8)))
    train, validation, test = read(group=r"patient\d+", validation=4)
    assert (train.counts().tolist(), validation.counts().tolist(), test.counts().tolist()) == ([4, 4], [2, 2], [2, 2])


def test_split_by_group_that_leaves_a_class_without_images_is_refused(folder: Path, read: Read) -> None:
    write(folder, *names("cat", 8), *names("dog", 8))
    with pytest.raises(
        PipelineError, match=r"prepare.test holds out 4 of 16 images, which would leave one of the splits without"
    ):
        read(group="cat|dog")


@pytest.mark.parametrize("group", [r"/(\d)\d\.", r"/\d(\d)?"])
def test_files_that_the_group_expression_does_not_match_are_named(folder: Path, read: Read, group: str) -> None:
    write(folder, "cat/10.png", "cat/7.png", "dog/11.png", "dog/8.png")
    with pytest.raises(PipelineError) as error:
        read(group=group)
    assert str(error.value) == (
        f"error: prepare.group `{group}` does not match 2 of 4 files:\n"
        "       cat/7.png\n"
        "       dog/8.png\n"
        "hint: dvc exp run -S prepare.group=EXPRESSION   # that also matches these files, or remove them"
    )


def test_all_broken_files_are_named_and_nothing_is_written(folder: Path, read: Read, tmp_path: Path) -> None:
    write(folder, *names("cat", 8), *names("dog", 8))
    (folder / "cat/notes.txt").write_text("seen on Tuesday")
    (folder / "dog/cut.png").write_bytes((folder / "dog/0.png").read_bytes()[:45])
    (folder / "dog/empty.png").write_bytes(b"")
    with pytest.raises(PipelineError) as error:
        read()
    first, *lines, hint = str(error.value).splitlines()
    assert first == f"error: {folder}: 3 of 19 files cannot be read as PNG, JPEG, WebP, BMP or TIFF:"
    assert [line.split(": ")[0].strip() for line in lines] == ["cat/notes.txt", "dog/cut.png", "dog/empty.png"]
    assert "image file is truncated" in str(error.value)
    assert hint == f"hint: cd {folder}   # remove or replace these files, then: dvc repro"
    assert is_empty(tmp_path / "prepared")


def test_all_broken_files_are_listed(folder: Path, read: Read) -> None:
    for number in range(1050):
        path = folder / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    with pytest.raises(PipelineError) as error:
        read()
    lines = str(error.value).splitlines()
    assert "1,050 of 1,050 files cannot be read" in lines[0]
    assert len(lines) == 1 + 1_050 + 1


def test_file_name_that_is_not_utf_8_is_listed(folder: Path, read: Read) -> None:
    write(folder, *names("cat", 4), *names("dog", 4))
    (folder / "cat/0.png").rename(folder / "cat" / os.fsdecode(b"caf\xe9.png"))
    with pytest.raises(PipelineError, match=r"'cat/caf.udce9.png': the name is not UTF-8"):
        read()


def test_file_name_that_a_page_would_read_as_html_is_listed(folder: Path, read: Read) -> None:
    write(folder, *names("cat", 4), *names("<", 4), "</script>.png")
    with pytest.raises(PipelineError, match=r"</script>.png: the name contains <, which"):
        read()


def test_image_that_pad_would_make_invisible_is_listed(folder: Path, read: Read) -> None:
    write(folder, *names("cat", 4), *names("dog", 4))
    Image.new("L", (300, 2), 255).save(folder / "cat/0.png")
    with pytest.raises(PipelineError, match=r"cat/0.png: 300 x 2 pixels, which is too narrow for prepare.fit pad"):
        read()
    read(fit="stretch")


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_every_name_of_a_validation_split_is_known(folder: Path, read: Read, name: str) -> None:
    for part in ("train", name):
        write(folder / part, *names("cat", 2), *names("dog", 2))
    with pytest.raises(PipelineError, match=r"has train/ and a validation split, but no test/"):
        read()
    write(folder / "test", *names("cat", 2), *names("dog", 2))
    assert {file.split("/")[0] for file in read()[1].files} == {name}
    assert {file.split("/")[0] for file in read(validation=0)[1].files} == {"test"}  # as documented for 0


@pytest.mark.parametrize("name", [".", "missing"])
def test_folder_without_classes_is_refused(folder: Path, read: Read, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    with pytest.raises(PipelineError, match="has 0 folders, expected one per class, at least two"):
        read()


def test_class_without_images_is_named(folder: Path, read: Read) -> None:
    write(folder, *names("cat", 4), *names("dog", 4))
    (folder / "owl").mkdir()
    with pytest.raises(PipelineError, match="owl has no files, expected the images of that class"):
        read()
