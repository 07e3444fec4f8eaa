"""Evaluate the model on the test set."""

from pathlib import Path

from src.data.dataset import load_split
from src.device import prepare_compute
from src.metrics import classification_metrics
from src.models.inference import predict
from src.models.model_file import load_model
from src.params import Params
from src.runtime.cli import run_stage
from src.runtime.errors import PipelineError
from src.runtime.files import write_csv, write_json


def main(params: Params, prepared: Path, model: Path, metrics: Path) -> None:
    device = prepare_compute(params.train).device  # the precision is checked but not used: inference is in float32
    test_set = load_split(prepared, "test")
    net, metadata = load_model(model)
    classes = test_set.classes
    if (classes, test_set.image_shape) != (metadata.classes, metadata.input_shape):
        raise PipelineError(
            f"{model} and the test set do not match\n"
            f"model:    images of shape {metadata.input_shape}, classes {', '.join(metadata.classes)}\n"
            f"test set: images of shape {test_set.image_shape}, classes {', '.join(classes)}",
            "dvc repro --force --single-item train",
        )
    log_probabilities = predict(net.to(device), test_set.images, metadata.normalize, device)
    values = classification_metrics(
        test_set.labels, log_probabilities.numpy(), classes, params.evaluate.calibration_bins
    )
    write_json(metrics / "evaluate.json", values)
    confidence, predicted = log_probabilities.max(dim=1)
    rows = [
        [index, classes[label], classes[guess], probability]
        for index, (label, guess, probability) in enumerate(
            zip(test_set.labels, predicted.tolist(), confidence.exp().tolist(), strict=True)
        )
    ]
    write_csv(metrics / "predictions.csv", ["index", "actual", "predicted", "confidence"], rows)
    low, high = values["accuracy_low"], values["accuracy_high"]
    print(f"test accuracy {values['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})", flush=True)


if __name__ == "__main__":
    run_stage(main)
