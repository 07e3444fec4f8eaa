"""Evaluate the model on the test set, and choose how sure it has to be."""

from pathlib import Path

import numpy as np

from src.data.dataset import load_split
from src.data.predictions import predictions_table, read_predictions
from src.device import set_up_device
from src.evaluation.metrics import (
    choose_threshold,
    classification_metrics,
    per_class_metrics,
    selective_metrics,
    sure_predictions,
)
from src.models.inference import predict
from src.models.model_file import load_model
from src.params.compute import ComputeParams
from src.params.evaluate import EvaluateParams
from src.runtime.cli import run_stage
from src.runtime.files import write_json, write_table


def main(
    evaluate: EvaluateParams,
    compute: ComputeParams,
    prepared: Path,
    model_dir: Path,
    metrics_dir: Path,
) -> None:
    device = set_up_device(compute).device
    test_set = load_split(prepared, "test")
    classifier, _ = load_model(model_dir / "model.safetensors")
    classes, labels = test_set.classes, test_set.labels
    log_probabilities = predict(classifier.to(device), test_set.images, device)
    metrics = classification_metrics(labels, log_probabilities.numpy(), test_set.groups)
    predicted = log_probabilities.argmax(dim=1).numpy()
    per_class = per_class_metrics(labels, predicted, len(classes))
    predictions = predictions_table(test_set, log_probabilities)
    validation = read_predictions(model_dir / "validation.csv")
    if len(validation):
        is_right = (validation["actual"] == validation["predicted"]).to_numpy()
        threshold = choose_threshold(validation["confidence"].to_numpy(), is_right, evaluate.target_accuracy)
        confidence = np.array(predictions["confidence"])
        metrics |= selective_metrics(confidence, predicted == labels, threshold, test_set.groups)
        per_class |= sure_predictions(labels, predicted, confidence > threshold, len(classes))
    write_json(metrics_dir / "evaluate.json", metrics)
    write_table(metrics_dir / "predictions.csv", predictions)
    write_table(metrics_dir / "per_class.csv", {"class": classes, **per_class})
    low, high = metrics["accuracy_low"], metrics["accuracy_high"]
    print(f"test accuracy {metrics['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})", flush=True)


if __name__ == "__main__":
    run_stage(main)
