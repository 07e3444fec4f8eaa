"""Export the model as ONNX, and compare it with torch on the test set.

python -m tools.export model.onnx

The input is uint8 [batch, height, width], or [batch, height, width, 3] in color. The output is the probability of each
class, float32 [batch, classes]. Class names, commit and how to read image files are in the metadata of the file.
"""

import argparse
import hashlib
import json
import subprocess
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import torch
from torch import Tensor, nn

from src.data.dataset import load_dataset
from src.models.inference import Classifier, batch_size
from src.models.model_file import check_test_set, load_model
from src.runtime.cli import exit_on_error
from src.runtime.errors import PipelineError
from src.runtime.files import write_bytes
from tools.predict import MODEL

TEST_SET = Path("data/prepared/test.safetensors")
MAX_BYTES = 2_000_000_000  # of weights; protobuf cannot store a file of 2 GiB
TOLERANCE = 1e-4  # largest accepted difference between the probabilities of torch and onnxruntime


class ProbabilityModel(nn.Module):
    """A classifier that returns probabilities instead of their logarithms."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.classifier = classifier.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Map uint8 images [batch, height, width] or [batch, height, width, 3] to probabilities [batch, classes]."""
        log_probabilities: Tensor = self.classifier(images)
        return log_probabilities.exp()


def to_onnx(classifier: ProbabilityModel, images: np.ndarray, metadata: dict[str, str]) -> bytes:
    """Return an ONNX model for any batch size.

    Raises:
        PipelineError: the network is too large, or torch cannot export it.

    Args:
        classifier: maps images to probabilities.
        images: uint8, an example of two images or more.
        metadata: text by key.
    """
    smaller = "dvc exp run -S model.name=resnet18   # works"
    size = sum(tensor.nbytes for tensor in classifier.state_dict().values())
    if size > MAX_BYTES:
        raise PipelineError(f"the weights have {size:,} bytes, but an ONNX file holds at most {MAX_BYTES:,}", smaller)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations inside torch's exporter
            program = torch.onnx.export(
                classifier,
                (torch.from_numpy(images),),
                input_names=["images"],
                output_names=["probabilities"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        message = f"torch cannot export this network as ONNX: {str(error).splitlines()[0]}"
        raise PipelineError(message, smaller) from None
    model = program.model_proto  # type: ignore[union-attr]
    onnx.helper.set_model_props(model, metadata)
    return bytes(model.SerializeToString())


def commit_of(model: Path) -> str:
    """Return the first git commit whose dvc.lock records the MD5 of the model file, or "" if there is none."""
    with model.open("rb") as file:
        digest = hashlib.file_digest(file, "md5").hexdigest()
    command = ["git", "log", "--reverse", "--format=%H", f"-S{digest}", "--", "dvc.lock"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.split("\n")[0]


def compare(classifier: ProbabilityModel, model: bytes, images: np.ndarray) -> tuple[pd.DataFrame, int, float]:
    """Run torch and onnxruntime on the same images.

    Args:
        classifier: the model in torch.
        model: the same network as ONNX.
        images: uint8 [n, height, width] or [n, height, width, 3].

    Returns:
        A table of the images per second of both, the number of images that get different classes, and the largest
        difference between two probabilities.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    size = batch_size(images)
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    outputs, speed = [], {}
    for name, run in (
        ("torch", lambda batch: classifier(torch.from_numpy(batch)).numpy()),
        ("onnxruntime", lambda batch: session.run(None, {"images": batch})[0]),
    ):
        start = time.perf_counter()
        with torch.inference_mode():
            outputs.append(np.concatenate([run(batch) for batch in batches]))
        speed[name] = round(len(images) / (time.perf_counter() - start))
    first, second = outputs
    different = int((first.argmax(axis=1) != second.argmax(axis=1)).sum())
    return pd.Series(speed, name="images per second").to_frame(), different, float(np.abs(first - second).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, metavar="TARGET", help="the ONNX file to write")
    parser.add_argument("--model", type=Path, default=MODEL, metavar="PATH", help=f"instead of {MODEL}")
    options = parser.parse_args()
    with exit_on_error():
        model, metadata = load_model(options.model)
        test_set = load_dataset(TEST_SET)
        check_test_set(test_set, metadata)
        images = test_set.images
        classifier = ProbabilityModel(model)
        properties = {
            "network": metadata.network,
            "classes": json.dumps(metadata.classes),
            "fit": metadata.fit,
            "background": "white",  # of transparent images
            "commit": commit_of(options.model),
        }
        print(f"exporting {metadata.network} and running it on {len(images):,} test images ...", flush=True)
        exported = to_onnx(classifier, images[:2], properties)
        table, different, largest = compare(classifier, exported, images)
        if largest > TOLERANCE:
            raise PipelineError(
                f"probabilities of onnxruntime and torch differ by {largest:.2g}, expected at most {TOLERANCE:.2g}",
                "make .venv/ready   # installs the tested versions; then repeat the command",
            )
        write_bytes(options.target, exported)
    print(table.to_string())
    print(f"{different} of {len(images):,} test images change class; probabilities differ by at most {largest:.1g}")
    commit = properties["commit"] or "none, because no dvc.lock in the history records this model"
    print(f"wrote {options.target}: {len(exported):,} bytes, commit {commit}")


if __name__ == "__main__":
    main()
