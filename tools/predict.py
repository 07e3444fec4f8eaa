"""Read the digits in photos and scans, PNG or JPEG, one digit each; or classify images as those of a model's folder.

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

from src.data.dataset import Dataset
from src.models.inference import predict
from src.models.model_file import load_model
from src.runtime.cli import fail, plain_errors
from src.runtime.errors import PipelineError
from src.sources.image_file import read_image, to_digit, to_image

MODEL = Path("data/model/model.safetensors")
DIGITS = tuple("0123456789")
SURE = 0.9  # confidence below which an answer counts as a guess


def load(name: str, classes: tuple[str, ...]) -> np.ndarray:
    """The image of that file, or of standard input for "-", as uint8 [28, 28]; raises PipelineError.

    Only where the classes are the ten digits, what is in it is looked for, as MNIST has it.
    """
    convert = to_digit if classes == DIGITS else to_image
    try:
        return convert(read_image(io.BytesIO(sys.stdin.buffer.read()) if name == "-" else Path(name)))
    except (ValueError, OSError) as error:
        raise PipelineError(
            "this image cannot be read",
            found=error,
            expected="a PNG or JPEG; of a digit: one, darker or lighter than its background",
            where=name,
            run=f"file '{name}'   # what it is; then with another image",
        ) from None


def answer(name: str, probabilities: torch.Tensor, classes: tuple[str, ...], top: int) -> dict[str, Any]:
    """The `top` most probable classes of one image, and whether the first is a guess."""
    confidence, order = (best.tolist() for best in probabilities.topk(min(top, len(classes))))
    named = [{"class": classes[i], "probability": round(p, 4)} for p, i in zip(confidence, order, strict=True)]
    return {"image": name, "predicted": named[0]["class"], "sure": confidence[0] >= SURE, "top": named}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="PNG or JPEG files; - for standard input")
    parser.add_argument("--top", type=int, default=1, metavar="N", help="how many classes to name")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--model", type=Path, default=MODEL)
    options = parser.parse_args()
    if options.top < 1:
        parser.error("--top: at least 1")
    answers, failures = [], []
    with plain_errors():
        net, about = load_model(options.model)
        for name in options.images:
            try:
                image = Dataset(load(name, about.classes)[None], np.zeros(1, np.uint8), about.classes)
            except PipelineError as error:
                failures.append(str(error))
                continue
            (probabilities,) = predict(net, image, about.normalize, torch.device("cpu")).exp()
            answers.append(answer(name, probabilities, about.classes, options.top))
    if options.json:
        print(json.dumps(answers, indent=2))
    else:
        for one in answers:
            best = ", ".join(f"{item['class']} {item['probability']:.1%}" for item in one["top"])
            print(f"{one['image']}: {best}{'' if one['sure'] else '   unsure'}")
    if failures:
        fail("\n".join(failures), status=1)


if __name__ == "__main__":
    main()
