"""Export the model as ONNX, and compare it with torch on the test set.

python -m tools.export model.onnx

The input is uint8 [batch, height, width], or [batch, height, width, 3] in color. The output is the probability of each
class, float32 [batch, classes]. Class names and how to read image files are in the metadata of the file.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from src.data.dataset import load_split
from src.models.inference import evaluation_batch_size
from src.models.model_file import load_model
from src.runtime.cli import exit_on_error
from src.runtime.errors import PipelineError
from src.runtime.files import write_bytes
from tools.project import MODEL, PREPARED, read_threshold

TOLERANCE = 1e-4  # largest accepted difference between the probabilities of torch and onnxruntime


def to_onnx(model: nn.Module, images: np.ndarray, metadata: dict[str, str]) -> bytes:
    """Return an ONNX model for any batch size.

    Args:
        images: uint8, an example of two images or more.
    """
    with warnings.catch_warnings(action="ignore"):  # deprecations inside torch's exporter
        program = torch.onnx.export(
            model,
            (torch.from_numpy(images),),
            input_names=["images"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            verbose=False,
        )
    exported = program.model_proto  # type: ignore[union-attr]
    onnx.helper.set_model_props(exported, metadata)
    return bytes(exported.SerializeToString())


@torch.no_grad()
def largest_difference(model: nn.Module, exported: bytes, images: np.ndarray) -> float:
    """Return the largest difference between a probability of torch and the same one of onnxruntime.

    Args:
        images: uint8 [n, height, width] or [n, height, width, 3].
    """
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    differences = []
    for batch in np.array_split(images, -(-len(images) // evaluation_batch_size(*images.shape[1:3]))):
        (probabilities,) = session.run(None, {"images": batch})
        differences.append(np.abs(probabilities - model(torch.from_numpy(batch)).numpy()).max())
    return float(max(differences))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", type=Path, metavar="TARGET", help="the ONNX file to write")
    target = parser.parse_args().target
    with exit_on_error():
        classifier, metadata = load_model(MODEL)
        test_set = load_split(PREPARED, "test")
        model = nn.Sequential(classifier, nn.Softmax(dim=1)).eval()  # from log-probabilities to probabilities
        properties = {
            "network": metadata.network,
            "classes": json.dumps(metadata.classes),
            "fit": metadata.fit,
            "background": "white",  # of transparent images
            "threshold": str(read_threshold()),  # a more probable prediction is sure
        }
        print(f"exporting {metadata.network} and running it on {len(test_set):,} test images ...", flush=True)
        exported = to_onnx(model, test_set.images[:2], properties)
        largest = largest_difference(model, exported, test_set.images[:])
        if largest > TOLERANCE:
            raise PipelineError(
                f"probabilities of onnxruntime and torch differ by {largest:.2g}, expected at most {TOLERANCE:.2g}",
                "make .venv/ready   # installs the tested versions; then repeat the command",
            )
        write_bytes(target, exported)
    print(f"wrote {target}: probabilities differ by at most {largest:.1g}")


if __name__ == "__main__":
    main()
