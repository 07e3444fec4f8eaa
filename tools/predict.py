"""Classify images. A model of MNIST finds the digit in each photo or scan.

python -m tools.predict photo.jpg scan.png
python -m tools.predict folder/of/images --csv > predictions.csv
cat photo.jpg | python -m tools.predict --json --top 3 -
"""

import argparse
import io
import json
import re
import shlex
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from src.models.inference import EVALUATION_BATCH, Classifier, predict
from src.models.model_file import ModelMetadata, load_model
from src.runtime.cli import exit_on_error, exit_with_error
from src.runtime.errors import PipelineError
from src.sources.image_file import load_images, read_image
from tools.digit import extract_digit

MODEL = Path("data/model/model.safetensors")
MIN_CONFIDENCE = 0.9  # a prediction below it is marked as unsure


def expand_folders(names: Iterable[str]) -> list[str]:
    """Replace each folder with the visible files in it and below, in the order of their names."""
    files = []
    for name in names:
        if Path(name).is_dir():
            below = sorted(path for path in Path(name).rglob("*") if path.is_file())
            files += [str(path) for path in below if not re.search(r"(^|/)\.", str(path.relative_to(name)))]
        else:
            files.append(name)
    return files


def read_images(names: list[str], metadata: ModelMetadata) -> Iterator[np.ndarray | ValueError]:
    """Yield each image as the model reads it, or why it cannot be read. "-" is standard input.

    For a model of MNIST, find the digit in the image and yield uint8 [28, 28]. Otherwise read the image as
    `stages.prepare` reads a folder, and yield uint8 [height, width] or [height, width, 3].
    """
    files: list[Path | BinaryIO] = [
        io.BytesIO(sys.stdin.buffer.read()) if name == "-" else Path(name) for name in names
    ]
    if metadata.source == "mnist":
        for file in files:
            try:
                yield extract_digit(read_image(file))
            except ValueError as error:
                yield error
    else:
        channels, side, _ = metadata.input_shape
        for result in load_images(files, side, channels, metadata.fit):
            yield result if isinstance(result, ValueError) else result[0]


def top_k(name: str, probabilities: torch.Tensor, classes: tuple[str, ...], k: int) -> dict[str, Any]:
    """Return the `k` most probable classes of one image, and whether the first one is at least `MIN_CONFIDENCE`.

    Args:
        name: the image.
        probabilities: float32 [classes].
        classes: the class names.
        k: how many classes to return, at most all.
    """
    values, indices = (best.tolist() for best in probabilities.topk(min(k, len(classes))))
    top = [{"class": classes[i], "probability": round(value, 4)} for value, i in zip(values, indices, strict=True)]
    return {"image": name, "predicted": top[0]["class"], "sure": values[0] >= MIN_CONFIDENCE, "top": top}


def classify(
    classifier: Classifier, metadata: ModelMetadata, names: list[str], k: int
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the result of `top_k` for each image, and an error message for each that cannot be read."""
    results: list[dict[str, Any]] = []
    errors: list[str] = []
    batch: list[tuple[str, np.ndarray]] = []
    images = zip(names, read_images(names, metadata), strict=True)
    for name, image in tqdm(images, "classifying", len(names), unit=" images", leave=False, disable=None):
        if isinstance(image, ValueError):
            message = f"{name} cannot be read: {image}\nexpected one PNG, JPEG, WebP, BMP or TIFF image"
            errors.append(str(PipelineError(message, f"file {shlex.quote(name)}   # shows its format")))
        else:
            batch.append((name, image))
        if batch and (len(batch) == EVALUATION_BATCH or name == names[-1]):
            keys, arrays = zip(*batch, strict=True)
            outputs = predict(classifier, np.stack(arrays), torch.device("cpu")).exp()
            results += [top_k(key, row, metadata.classes, k) for key, row in zip(keys, outputs, strict=True)]
            batch = []
    return results, errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="image files and folders; - for standard input")
    parser.add_argument("--top", type=int, default=1, metavar="N", help="print the N most probable classes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--csv", action="store_true", help="print CSV")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="PATH", help=f"instead of {MODEL}")
    options = parser.parse_args()
    if options.top < 1:
        parser.error("--top must be at least 1")
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # names may not be UTF-8
    with exit_on_error():
        classifier, metadata = load_model(options.model)
        names, start = expand_folders(options.images), time.perf_counter()
        results, errors = classify(classifier, metadata, names, options.top)
        seconds = time.perf_counter() - start
    if options.json:
        print(json.dumps(results, indent=2))
    elif options.csv:
        rows = [
            {"image": result["image"], "sure": result["sure"]}
            | {f"{key}_{n}": value for n, item in enumerate(result["top"], 1) for key, value in item.items()}
            for result in results
        ]
        pd.DataFrame(rows).to_csv(sys.stdout, index=False)
    else:
        for result in results:
            best = ", ".join(f"{item['class']} {item['probability']:.1%}" for item in result["top"])
            print(f"{result['image']}: {best}{'' if result['sure'] else '   unsure'}")
    if errors:
        exit_with_error("\n".join(errors))
    print(f"{seconds:.1f} s, {len(names) / seconds:,.0f} images/s", file=sys.stderr)


if __name__ == "__main__":
    main()
