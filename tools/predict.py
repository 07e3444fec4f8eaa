"""Classify PNG or JPEG images. If the classes are 0 to 9, find the digit in each photo or scan.

python -m tools.predict photo.jpg scan.png
cat photo.jpg | python -m tools.predict --json --top 3 -
"""

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from src.data.dataset import IMAGE_SIZE
from src.models.inference import predict
from src.models.model_file import load_model
from src.runtime.cli import exit_on_error, exit_with_error
from src.runtime.errors import PipelineError
from src.sources.image_file import letterbox, read_image
from tools.digit import extract_digit

MODEL = Path("data/model/model.safetensors")
DIGITS = tuple("0123456789")
INPUT_SHAPE = (1, IMAGE_SIZE, IMAGE_SIZE)  # channels, height and width that `load_image` makes
MIN_CONFIDENCE = 0.9  # a prediction below it is marked as unsure


def load_image(name: str, classes: tuple[str, ...]) -> np.ndarray:
    """Read a file, or standard input if `name` is "-", as uint8 [28, 28]. If the classes are 0 to 9, find the digit.

    Raises:
        PipelineError: it is not a PNG or JPEG, or nothing is visible in it.
    """
    convert, what = (extract_digit, "one digit") if classes == DIGITS else (letterbox, "one object")
    try:
        return convert(read_image(io.BytesIO(sys.stdin.buffer.read()) if name == "-" else Path(name)))
    except (ValueError, OSError) as error:
        raise PipelineError(
            f"{name} cannot be read: {error}\nexpected a PNG or JPEG of {what}", f"file '{name}'   # shows its format"
        ) from None


def top_k(name: str, probabilities: torch.Tensor, classes: tuple[str, ...], k: int) -> dict[str, Any]:
    """Return the `k` most probable classes of one image, and whether the first one is at least `MIN_CONFIDENCE`.

    Args:
        name: the image.
        probabilities: float32 [classes].
        classes: the class names.
        k: at most all classes are returned.
    """
    values, indices = (best.tolist() for best in probabilities.topk(min(k, len(classes))))
    top = [{"class": classes[i], "probability": round(value, 4)} for value, i in zip(values, indices, strict=True)]
    return {"image": name, "predicted": top[0]["class"], "sure": values[0] >= MIN_CONFIDENCE, "top": top}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="PNG or JPEG files; - for standard input")
    parser.add_argument("--top", type=int, default=1, metavar="N", help="print the N most probable classes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="PATH", help=f"instead of {MODEL}")
    options = parser.parse_args()
    if options.top < 1:
        parser.error("--top is at least 1")
    results, errors = [], []
    with exit_on_error():
        net, metadata = load_model(options.model)
        if metadata.input_shape != INPUT_SHAPE:
            raise PipelineError(
                f"{options.model} reads images of shape {metadata.input_shape}, expected {INPUT_SHAPE}",
                f"python -m tools.predict --model {MODEL} IMAGE   # the model of this pipeline",
            )
        for name in options.images:
            try:
                image = load_image(name, metadata.classes)
                probabilities = predict(net, image[np.newaxis], metadata.normalize, torch.device("cpu"))[0].exp()
                results.append(top_k(name, probabilities, metadata.classes, options.top))
            except PipelineError as error:
                errors.append(str(error))
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        for result in results:
            best = ", ".join(f"{item['class']} {item['probability']:.1%}" for item in result["top"])
            print(f"{result['image']}: {best}{'' if result['sure'] else '   unsure'}")
    if errors:
        exit_with_error("\n".join(errors))


if __name__ == "__main__":
    main()
