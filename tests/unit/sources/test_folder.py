"""Folders of images: what is read, how it is split, and which mistakes are named."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from src.data.dataset import Dataset
from src.runtime.errors import PipelineError
from src.sources.folder import read_folder
from src.training.hold_out import split_training_images

Read = Callable[..., tuple[Dataset, Dataset]]
CATS_AND_DOGS = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(8)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


@pytest.fixture
def read(folder: Path, tmp_path: Path, params: SimpleNamespace) -> Read:
    """Write images of 28 x 28 pixels, with the gray values 0, 1 ..., and read the folder."""

    def read(*files: str, **changes: Any) -> tuple[Dataset, Dataset]:
        for value, file in enumerate(files):
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (28, 28), value).save(folder / file)
        settings = params.prepare.model_copy(update={"test": 0.25, **changes})
        return read_folder(folder, settings, tmp_path / "prepared")

    return read


def test_each_split_has_its_files_in_order_with_their_images_labels_and_sizes(folder: Path, read: Read) -> None:
    (folder / "dog").mkdir()
    Image.new("L", (60, 30), 16).save(folder / "dog/8.png")
    train, test = read(*CATS_AND_DOGS, fit="crop")
    assert train.classes == test.classes == ("cat", "dog")
    assert train.files[3:8] == ("cat/3.png", "cat/4.png", "cat/6.png", "dog/0.png", "dog/1.png")
    assert train.images[:, 14, 14].tolist() == [0, 1, 2, 3, 4, 6, 8, 9, 11, 12, 13, 14, 15]
    assert train.labels.tolist() == [0] * 6 + [1] * 7
    assert test.images[:, 14, 14].tolist() == [5, 7, 10, 16]
    assert test.sizes.tolist() == [[28, 28], [28, 28], [28, 28], [60, 30]]
    assert (test.source, test.fit) == ("folder", "crop")


def test_images_are_mapped_from_a_file_that_no_folder_lists(read: Read, tmp_path: Path) -> None:
    images = read(*CATS_AND_DOGS)[0].images
    assert not images.flags.writeable
    assert not list((tmp_path / "prepared").iterdir())
    assert str(tmp_path / "prepared") in Path("/proc/self/maps").read_text()


def test_files_of_the_system_and_hidden_folders_are_ignored(folder: Path, read: Read) -> None:
    (folder / ".ipynb_checkpoints").mkdir()
    (folder / "cat").mkdir()
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (folder / "cat" / name).touch()
    splits = read(*CATS_AND_DOGS)
    assert (sum(map(len, splits)), splits[0].classes) == (16, ("cat", "dog"))


def test_more_than_256_classes_have_16_bit_labels(read: Read) -> None:
    train, _ = read(*(f"{n:03}/{name}.png" for n in range(257) for name in "ab"), test=0.5)
    assert (train.labels.tolist(), train.labels.dtype) == (list(range(257)), np.uint16)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_given_splits_are_kept(read: Read, params: SimpleNamespace, name: str) -> None:
    with pytest.raises(PipelineError, match=r"has train/ and a validation split, but no test/"):
        read("train/cat/a.png", "train/cat/b.png", "train/dog/c.png", f"{name}/cat/d.png", f"{name}/dog/e.png")
    pool, test = read("test/cat/f.png", "test/dog/g.png", "test/dog/h.png")
    train, validation = split_training_images(pool, params.train)
    assert train.files == ("train/cat/a.png", "train/cat/b.png", "train/dog/c.png")
    assert validation.files == (f"{name}/cat/d.png", f"{name}/dog/e.png")
    assert test.files == ("test/cat/f.png", "test/dog/g.png", "test/dog/h.png")
    assert [split.labels.tolist() for split in (train, validation, test)] == [[0, 0, 1], [0, 1], [0, 1, 1]]


def test_classes_named_train_and_bus_are_classes(read: Read) -> None:
    assert read(*(f"{name}/{n}.png" for name in ("train", "bus") for n in range(4)))[0].classes == ("bus", "train")


@pytest.mark.parametrize("group", [r"/(p\d+)-", r"p\d+"])
def test_images_of_a_group_stay_in_one_split(
    read: Read, params: SimpleNamespace, group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Patients have images of one class or of both."""
    views = [f"{'dog' if n % 2 else 'cat'}/p{n}-{view}.png" for n in range(20) for view in "abc"]
    pool, test = read(*views, "dog/p0-d.png", "cat/p1-d.png", group=group)
    settings = params.train.model_copy(update={"validation": 16})
    train, validation = split_training_images(pool, settings)
    splits = train, validation, test
    in_splits = [{file.split("/")[1].split("-")[0] for file in split.files} for split in splits]
    assert [len(patients) for patients in in_splits] == [10, 5, 5]  # 16 of 47 images in the 15 other groups: 5 groups
    assert (len(set.union(*in_splits)), sum(map(len, splits))) == (20, 62)
    assert capsys.readouterr().out.startswith("prepare.group: 20 groups, at most 4 files: ")


def test_group_in_two_given_splits_is_refused(read: Read) -> None:
    train = ("train/cat/p1-a.png", "train/dog/p2-a.png", "train/dog/p3-a.png", "train/cat/p4-a.png")
    message = r"prepare.group `p\\d` finds images of group p3 in two splits"
    with pytest.raises(PipelineError, match=message):
        read(*train, "test/cat/p5-a.png", "test/dog/p3-b.png", group=r"p\d")


def test_files_that_the_group_expression_does_not_match_are_named(read: Read) -> None:
    with pytest.raises(PipelineError) as error:  # matches, but without its capture group
        read("cat/10.png", "cat/7.png", "dog/11.png", "dog/8.png", group=r"/\d(\d)?")
    assert str(error.value) == (
        r"error: prepare.group `/\d(\d)?` does not match 2 of 4 files:"
        "\n       cat/7.png\n       dog/8.png\n"
        "hint: dvc exp run -S prepare.group=EXPRESSION   # that also matches these files, or remove them"
    )


def test_all_broken_files_are_named_and_nothing_is_written(folder: Path, read: Read, tmp_path: Path) -> None:
    (folder / "cat").mkdir()
    (folder / "cat/notes.txt").write_text("seen on Tuesday")
    Image.new("L", (28, 28)).save(folder / "cat" / os.fsdecode(b"caf\xe9.png"))
    (folder / "cat/cut.png").write_bytes((folder / "cat" / os.fsdecode(b"caf\xe9.png")).read_bytes()[:45])
    Image.new("L", (300, 2), 255).save(folder / "cat/flat.png")
    with pytest.raises(PipelineError) as error:
        read(*CATS_AND_DOGS, "cat/<.png")
    assert [line.strip() for line in re.sub(r" '/\S+'", "", str(error.value)).splitlines()] == [
        f"error: {folder}: 5 of 21 files cannot be read as PNG, JPEG, WebP, BMP or TIFF:",
        r"'cat/caf\udce9.png': the name is not UTF-8",
        "cat/<.png: the name contains <, which can be code in the page of `dvc plots show`",
        "cat/cut.png: image file is truncated",
        "cat/flat.png: 300 x 2 pixels, which is too narrow for prepare.fit pad",
        "cat/notes.txt: cannot identify image file",
        f"hint: cd {folder}   # remove or replace these files, then: dvc repro",
    ]
    assert not list((tmp_path / "prepared").iterdir())


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "has 0 folders, expected one per class, at least two"),
        (["cat/0.png", "dog/0.png", "owl/.hidden.png"], "owl has no files, expected the images of that class"),
        (["train/cat/0.png", "train/dog/0.png", "test/cat/0.png", "test/owl/0.png"], "has images of class owl in"),
    ],
)
def test_class_without_images_is_named(read: Read, files: list[str], message: str) -> None:
    with pytest.raises(PipelineError, match=message):
        read(*files)
