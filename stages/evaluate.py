"""Evaluate the model on the test set."""

from pathlib import Path

from src.data.dataset import load_split
from src.device import set_up_device
from src.evaluation.metrics import classification_metrics, per_class_metrics
from src.models.inference import predict
from src.models.model_file import load_model
from src.params.compute import ComputeParams
from src.runtime.cli import run_stage
from src.runtime.files import write_csv, write_json


def main(compute: ComputeParams, prepared: Path, model_path: Path, metrics_dir: Path) -> None:
    device = set_up_device(compute).device
    test_set = load_split(prepared, "test")
    classifier, _ = load_model(model_path)
    classes, labels = test_set.classes, test_set.labels
    log_probabilities = predict(classifier.to(device), test_set.images, device)
    metrics = classification_metrics(labels, log_probabilities.numpy())
    write_json(metrics_dir / "evaluate.json", metrics)
    best, predicted = log_probabilities.max(dim=1)
    predictions = {
        "index": range(len(labels)),
        "actual": [classes[label] for label in labels],
        "predicted": [classes[label] for label in predicted.tolist()],
        "confidence": best.exp().tolist(),
    }
    if test_set.files:
        predictions["file"] = test_set.files
    write_csv(metrics_dir / "predictions.csv", list(predictions), zip(*predictions.values(), strict=True))
    table = {"class": classes, **per_class_metrics(labels, predicted.numpy(), len(classes))}
    write_csv(metrics_dir / "per_class.csv", list(table), zip(*table.values(), strict=True))
    low, high = metrics["accuracy_low"], metrics["accuracy_high"]
    print(f"test accuracy {metrics['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})", flush=True)


if __name__ == "__main__":
    run_stage(main)
