"""Measure the model on the test set, once."""

from pathlib import Path

import torch
import torch.nn.functional as F

from src.dataset import load_dataset
from src.device import prepare_device
from src.errors import PipelineError
from src.evaluation import predict
from src.files import write_csv, write_json
from src.params import Params
from src.scores import confusion_matrix, expected_calibration_error, wilson_interval
from src.stage import run_stage
from src.weights import load_model


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
    if test_set.counts().min() == 0:
        raise PipelineError(
            "a class has no test image",
            found=f"none of {classes[test_set.counts().argmin()]}",
            expected="at least one of each class, to measure its accuracy",
            where=test,
            run="dvc repro --force --single-item prepare   # with such images",
        )
    log_probabilities = predict(net.to(device), test_set, description.normalize, device)

    labels = torch.from_numpy(test_set.labels).long()
    loss = F.nll_loss(log_probabilities, labels).item()
    confidence, predicted = (tensor.numpy() for tensor in log_probabilities.exp().max(dim=1))
    right = predicted == test_set.labels
    matrix = confusion_matrix(test_set.labels, predicted, len(classes))
    low, high = wilson_interval(int(right.sum()), len(right))
    per_class = matrix.diagonal() / matrix.sum(axis=1)
    write_json(
        metrics,
        {
            "accuracy": float(right.mean()),
            "accuracy_low": low,
            "accuracy_high": high,
            "loss": loss,
            "errors": int((~right).sum()),
            "expected_calibration_error": expected_calibration_error(
                confidence, right, params.evaluate.calibration_bins
            ),
            "per_class_accuracy": dict(zip(classes, per_class.tolist(), strict=True)),
        },
    )
    rows = zip(test_set.labels, predicted, confidence.tolist(), strict=True)
    write_csv(
        predictions,
        ["index", "actual", "predicted", "confidence"],
        [[index, classes[a], classes[p], share] for index, (a, p, share) in enumerate(rows)],
    )
    print(
        f"test accuracy {right.mean():.4f} (95 % interval {low:.4f} to {high:.4f}), {(~right).sum()} errors", flush=True
    )


if __name__ == "__main__":
    run_stage(main)
