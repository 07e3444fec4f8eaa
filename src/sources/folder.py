"""Images in folders named after their classes."""

from pathlib import Path

import numpy as np

from src.data.dataset import IMAGE, Dataset
from src.runtime.errors import PipelineError
from src.sources.image_file import read_image, to_image


def read_folder(folder: Path) -> Dataset:
    """The PNG and JPEG images `folder`/class/*, fitted into 28 x 28 pixels on black, in the order of their names.

    Raises PipelineError that names the folder or file: no classes, a class without images, a file that is no image.
    """
    classes = sorted(path.name for path in folder.glob("[!.]*") if path.is_dir())
    files = [path for name in classes for path in sorted((folder / name).glob("[!.]*"))]
    if len(classes) < 2:
        raise _error(folder, f"{len(classes)} folders", "a folder for each class, two at least, with its images")
    for name in set(classes) - {path.parent.name for path in files}:
        raise _error(folder / name, "no image of it", "images of each class")
    images = np.zeros((len(files), *IMAGE), np.uint8)  # the one copy of the data in memory
    for image, path in zip(images, files, strict=True):
        image[:] = _read(path)
    positions = {name: position for position, name in enumerate(classes)}
    kind = np.uint8 if len(classes) <= 256 else np.uint16
    labels = np.array([positions[path.parent.name] for path in files], kind)
    return Dataset(images, labels, tuple(classes))


def _read(path: Path) -> np.ndarray:
    try:
        return to_image(read_image(path))
    except (ValueError, OSError) as error:
        raise _error(path, error, "an image") from None


def _error(path: Path, found: object, expected: str) -> PipelineError:
    return PipelineError(
        "the folder of images cannot be used", found=found, expected=expected, where=path, run=f"ls '{path.parent}'"
    )
