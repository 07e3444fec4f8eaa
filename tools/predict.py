"""Classify image files, which are read as the stage `prepare` reads a folder.

python -m tools.predict photo.jpg scan.png
python -m tools.predict folder/of/images --csv > predictions.csv
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from src.models.inference import Classifier, evaluation_batch_size, predict
from src.models.model_file import ModelMetadata, load_model
from src.runtime.cli import exit_on_error
from src.runtime.errors import PipelineError
from src.sources.image_file import load_images
from tools.project import MODEL, read_threshold


def expand_folders(names: Iterable[str]) -> list[Path]:
    """Replace each folder with the visible files in it and below, in the order of their names."""
    files: list[Path] = []
    for path in map(Path, names):
        below = (file for file in path.rglob("*") if file.is_file() and "/." not in f"/{file.relative_to(path)}")
        files += sorted(below) if path.is_dir() else [path]
    return files


def classify(
    classifier: Classifier, metadata: ModelMetadata, files: list[Path], threshold: float
) -> tuple[pd.DataFrame, list[str]]:
    """Return a row with the most probable class of each image, and an error message for each that cannot be read.

    A prediction is sure if its confidence, the probability of the predicted class, is above the threshold.
    """
    rows: list[tuple[Path, str, float]] = []
    errors = []
    channels, side, _ = metadata.input_shape
    size = evaluation_batch_size(side, side)
    for start in tqdm(range(0, len(files), size), "classifying", leave=False, disable=None):
        batch = files[start : start + size]
        results = list(zip(batch, load_images(batch, side, channels, metadata.fit), strict=True))
        errors += [f"{file} cannot be read: {result}" for file, result in results if isinstance(result, ValueError)]
        if images := [(file, result[0]) for file, result in results if not isinstance(result, ValueError)]:
            names, arrays = zip(*images, strict=True)
            confidence, index = predict(classifier, np.stack(arrays), torch.device("cpu")).exp().max(dim=1)
            rows += zip(names, [metadata.classes[i] for i in index.tolist()], confidence.tolist(), strict=True)
    table = pd.DataFrame(rows, columns=["image", "predicted", "confidence"])
    return table.assign(sure=table["confidence"] > threshold).round({"confidence": 4}), errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files and folders")
    parser.add_argument("--csv", action="store_true", help="print CSV")
    options = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names may not be UTF-8
    with exit_on_error():
        results, errors = classify(*load_model(MODEL), expand_folders(options.images), read_threshold())
        if options.csv:
            results.to_csv(sys.stdout, index=False)
        else:
            for row in results.itertuples():
                print(f"{row.image}: {row.predicted} {row.confidence:.1%}{'' if row.sure else '   unsure'}")
        if errors:
            raise PipelineError("\n".join(errors), "file IMAGE   # expected one PNG, JPEG, WebP, BMP or TIFF image")


if __name__ == "__main__":
    main()
