"""Read images from folders that are named after their classes."""

import itertools
import re
import shlex
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from src.data.dataset import Dataset
from src.data.split import check_split, stratified_split
from src.params.prepare import PrepareParams
from src.runtime.errors import PipelineError
from src.sources.image_file import load_images

VALIDATION = ("val", "valid", "validation")  # accepted names of the folder with the validation split
IGNORED = ("desktop.ini", "thumbs.db")  # files that Windows writes, in lower case


def read_folder(folder: Path, settings: PrepareParams, scratch: Path) -> tuple[Dataset, Dataset]:
    """Read and split the image files `folder`/class/*, or read given splits: `folder`/{train,val,test}/class/*.

    Hidden files and files that Windows adds are ignored. The images are in a temporary file, not in memory.

    Args:
        scratch: where to create the temporary file.

    Returns:
        The training images, which include those of val, and the test set.

    Raises:
        PipelineError: fewer than two classes, a class without images, files that are not images, or a group that does
            not match, is in two given splits, or leaves a class without images in one of the splits.
    """
    train, validation, test = _split_files(folder, settings)
    files = [*train, *validation, *test]
    classes, labels = np.unique([_class_of(file) for file in files], return_inverse=True)
    labels = labels.astype(np.uint8 if len(classes) <= 256 else np.uint16)
    images, sizes = _read_files(folder, files, settings, scratch)
    groups = _number_groups(files, settings.group) if settings.group else None
    if groups is not None:
        counts = np.bincount(groups)
        largest = ", ".join(list(itertools.compress(files, groups == counts.argmax()))[:4])
        print(f"prepare.group: {len(counts):,} groups, at most {counts.max():,} files: {largest}", flush=True)
    is_validation = (np.arange(len(files)) >= len(train)).astype(np.uint8) if validation else None
    dataset = Dataset(
        images, labels, tuple(classes.tolist()), tuple(files), sizes, "folder", settings.fit, groups, is_validation
    )
    count = len(train) + len(validation)
    return dataset[:count], dataset[count:]


def _split_files(folder: Path, settings: PrepareParams) -> tuple[list[str], list[str], list[str]]:
    """Return the files of train, validation (if it is given) and test, relative to `folder`."""
    given = [name for name in VALIDATION if (folder / name).is_dir()]
    if all((folder / part).is_dir() for part in ("train", "test")):
        train, test = _list_files(folder, "train/"), _list_files(folder, "test/")
        validation = [file for name in given for file in _list_files(folder, f"{name}/")]
        if unknown := {_class_of(file) for file in validation + test} - {_class_of(file) for file in train}:
            message = f"{folder} has images of class {', '.join(sorted(unknown))} in val or test, but none in train"
            raise PipelineError(message, f"ls {shlex.quote(str(folder))}/*/   # add them to train, or remove the class")
    elif (folder / "train").is_dir() and given:
        raise PipelineError(
            f"{folder} has train/ and a validation split, but no test/", f"ls {shlex.quote(str(folder))}"
        )
    else:
        files = _list_files(folder, "")
        classes, labels = np.unique([_class_of(file) for file in files], return_inverse=True)
        groups = _number_groups(files, settings.group) if settings.group else None
        count = max(1, round(settings.test * len(files)))
        held_out = stratified_split(labels, count, groups)
        check_split(held_out, labels, classes.tolist(), count, "prepare.test")
        train, validation = list(itertools.compress(files, ~held_out)), []
        test = list(itertools.compress(files, held_out))
    for first, second in itertools.combinations((train, validation, test), 2):  # given splits may divide a group
        if settings.group and (both := {*_groups_of(first, settings.group)} & {*_groups_of(second, settings.group)}):
            raise PipelineError(
                f"prepare.group `{settings.group}` finds images of group {min(both)} in two splits",
                "dvc exp run -S prepare.group=''   # or move the files of a group into one split",
            )
    return train, validation, test


def _list_files(folder: Path, part: str) -> list[str]:
    """Return the visible files relative to `folder`, by class and name. `part` is "" or a split such as "train/"."""
    root = folder / part
    classes = sorted(path.name for path in root.glob("[!.]*") if path.is_dir())
    if len(classes) < 2:
        raise PipelineError(
            f"{root} has {len(classes)} folders, expected one per class, at least two", f"ls {shlex.quote(str(root))}"
        )
    files = []
    for name in classes:
        names = sorted(path.name for path in (root / name).glob("[!.]*") if path.name.lower() not in IGNORED)
        if not names:
            message = f"{root / name} has no files, expected the images of that class"
            raise PipelineError(message, f"ls -a {shlex.quote(str(root / name))}")
        files += [f"{part}{name}/{file}" for file in names]
    return files


def _class_of(file: str) -> str:
    return file.split("/")[-2]


def _number_groups(files: Sequence[str], pattern: str) -> np.ndarray:
    """Return the number of the group of each file, from 0 in order of first appearance: int64 [n]."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(group, len(numbers)) for group in _groups_of(files, pattern)])


def _groups_of(files: Sequence[str], pattern: str) -> list[str]:
    """Return what the pattern matches in each "class/file.png": its first capture group, or all if it has none."""
    matches = [re.search(pattern, "/".join(file.split("/")[-2:])) for file in files]
    groups: list[Any] = [match[min(1, match.re.groups)] if match else None for match in matches]
    if unmatched := [file for file, group in zip(files, groups, strict=True) if group is None]:
        what = f"prepare.group `{pattern}` does not match {len(unmatched):,} of {len(files):,} files:"
        raise PipelineError(
            "\n".join([what, *unmatched[:10], *["..."] * (len(unmatched) > 10)]),
            "dvc exp run -S prepare.group=EXPRESSION   # that also matches these files, or remove them",
        )
    return groups


def _read_files(
    folder: Path, files: list[str], settings: PrepareParams, scratch: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Return images, mapped from a temporary file, and their original sizes: uint32 [n, 2]."""
    side, sizes, broken = settings.image_size, [], []
    scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=scratch) as temporary:
        results = load_images([folder / file for file in files], side, settings.channels, settings.fit)
        progress = tqdm(results, "reading images", len(files), leave=False, disable=None)
        for file, result in zip(files, progress, strict=True):
            if isinstance(result, ValueError):
                broken.append(f"{file}: {result}")
            elif file != file.encode(errors="replace").decode():
                broken.append(f"{file!a}: the name is not UTF-8")
            elif "<" in file:
                broken.append(f"{file}: the name contains <, which can be code in the page of `dvc plots show`")
            else:
                temporary.write(result[0])
                sizes.append(result[1])
        if broken:
            what = f"{len(broken):,} of {len(files):,} files cannot be read as PNG, JPEG, WebP, BMP or TIFF"
            raise PipelineError(
                "\n".join([f"{folder}: {what}:", *sorted(broken)]),
                f"cd {shlex.quote(str(folder))}   # remove or replace these files, then: dvc repro",
            )
        temporary.flush()
        shape = (len(files), side, side, 3)[: 4 if settings.channels == 3 else 3]
        return np.asarray(np.memmap(temporary, np.uint8, "r", shape=shape)), np.array(sizes, np.uint32)
