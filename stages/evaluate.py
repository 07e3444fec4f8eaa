"""Measure the model on the test set, once."""

from pathlib import Path

import torch
import torch.nn.functional as F

from src.data.dataset import load_dataset
from src.device import prepare_device
from src.metrics import expected_calibration_error, wilson_interval
from src.models.inference import predict
from src.models.model_file import load_model
from src.params import Params
from src.runtime.cli import run_stage
from src.runtime.errors import PipelineError
from src.runtime.files import write_csv, write_json


def main(params: Params, model: Path, test: Path, metrics: Path, predictions: Path) -> None:
    device = prepare_device(params.train)
    test_set, (net, description) = load_dataset(test), load_model(model)
    classes = test_set.classes
    if classes != description.classes:
        raise PipelineError(
            "the model knows other classes than the test set",
            found=", ".join(description.classes),
            expected=", ".join(classes),
            where=model,
            run="dvc repro --force --single-item train",
        )
    log_probabilities = predict(net.to(device), test_set, description.normalize, device)

    labels = test_set.labels
    loss = F.nll_loss(log_probabilities, torch.from_numpy(labels).long()).item()
    confidence, predicted = (tensor.numpy() for tensor in log_probabilities.exp().max(dim=1))
    right = predicted == labels
    low, high = wilson_interval(right.sum(), len(right))
    calibration_error = expected_calibration_error(confidence, right, params.evaluate.calibration_bins)
    write_json(
        metrics,
        {
            "accuracy": right.mean(),
            "accuracy_low": low,
            "accuracy_high": high,
            "loss": loss,
            "errors": int((~right).sum()),
            "expected_calibration_error": calibration_error,
            "per_class_accuracy": {name: right[labels == index].mean() for index, name in enumerate(classes)},
        },
    )
    rows = zip(labels, predicted, confidence.tolist(), strict=True)
    write_csv(
        predictions,
        ["index", "actual", "predicted", "confidence"],
        [[index, classes[a], classes[p], share] for index, (a, p, share) in enumerate(rows)],
    )
    print(f"test accuracy {right.mean():.4f} (95 % interval {low:.4f} to {high:.4f})", flush=True)


if __name__ == "__main__":
    run_stage(main)
