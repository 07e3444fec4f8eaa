"""Read images from folders that are named after their classes."""

import itertools
from pathlib import Path

import numpy as np

from src.data.dataset import IMAGE_SIZE, Dataset
from src.runtime.errors import PipelineError
from src.sources.image_file import letterbox, read_image


def read_folder(folder: Path) -> Dataset:
    """Read the PNG and JPEG images `folder`/class/* in the order of their names, as grayscale of 28 x 28 pixels.

    Hidden files are ignored.

    Raises:
        PipelineError: fewer than two classes, a class without images, or a file that is not an image.
    """
    classes = sorted(path.name for path in folder.glob("[!.]*") if path.is_dir())
    if len(classes) < 2:
        raise PipelineError(
            f"{folder} has {len(classes)} folders, expected one per class, at least two", f"ls '{folder}'"
        )
    files = [sorted((folder / name).glob("[!.]*")) for name in classes]
    counts = [len(paths) for paths in files]
    if 0 in counts:
        empty = folder / classes[counts.index(0)]
        raise PipelineError(f"{empty} has no files, expected the images of that class", f"ls -a '{empty}'")
    images = np.zeros((sum(counts), IMAGE_SIZE, IMAGE_SIZE), np.uint8)  # filled in place: only one copy in memory
    for image, path in zip(images, itertools.chain(*files), strict=True):
        try:
            image[:] = letterbox(read_image(path))
        except (ValueError, OSError) as error:
            message = f"{path} is not a readable PNG or JPEG image: {error}"
            raise PipelineError(message, f"file '{path}'   # replace or remove it, then: dvc repro") from None
    labels = np.repeat(np.arange(len(classes), dtype=np.uint8 if len(classes) <= 256 else np.uint16), counts)
    return Dataset(images, labels, tuple(classes))
