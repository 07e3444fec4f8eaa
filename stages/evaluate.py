"""Evaluate the model on the test set, and show which parts of the images caused its most confident mistakes."""

from pathlib import Path

import numpy as np

from src.data.dataset import load_split
from src.device import set_up_device
from src.evaluation.explain import occlusion
from src.evaluation.metrics import classification_metrics, per_class_metrics
from src.models.inference import predict
from src.models.model_file import check_test_set, load_model
from src.params.compute import ComputeParams
from src.params.evaluate import EvaluateParams
from src.reporting.drawing import draw_image_grid, overlay_heat
from src.runtime.cli import run_stage
from src.runtime.files import write_csv, write_json

EXPLAINED = 12  # number of images in occlusion.png: 65 evaluations each


def main(evaluate: EvaluateParams, compute: ComputeParams, prepared: Path, model_path: Path, metrics_dir: Path) -> None:
    device = set_up_device(compute).device
    test_set = load_split(prepared, "test")
    classifier, metadata = load_model(model_path)
    check_test_set(test_set, metadata)
    classes, labels = test_set.classes, test_set.labels
    log_probabilities = predict(classifier.to(device), test_set.images, device)
    metrics = classification_metrics(labels, log_probabilities.numpy(), evaluate.calibration_bins)
    write_json(metrics_dir / "evaluate.json", metrics)
    best, indices = log_probabilities.max(dim=1)
    confidence, predicted = best.exp().numpy(), indices.numpy()
    predictions = {
        "index": range(len(labels)),
        "actual": [classes[label] for label in labels.tolist()],
        "predicted": [classes[label] for label in predicted.tolist()],
        "confidence": confidence.tolist(),
        **({"file": test_set.files} if test_set.files else {}),
    }
    write_csv(metrics_dir / "predictions.csv", list(predictions), zip(*predictions.values(), strict=True))
    table = {"class": classes, **per_class_metrics(labels, predicted, len(classes))}
    write_csv(metrics_dir / "per_class.csv", list(table), zip(*table.values(), strict=True))

    mistakes = np.flatnonzero(predicted != labels)
    shown = mistakes[np.argsort(-confidence[mistakes], kind="stable")[:EXPLAINED]]
    images = test_set.images[shown]
    heat = occlusion(classifier, images, predicted[shown], device)
    captions = [f"{classes[labels[index]]}\n→ {classes[predicted[index]]}" for index in shown]
    title = "Most confident mistakes (actual → predicted). Colored: parts that caused the prediction"
    draw_image_grid(metrics_dir / "occlusion.png", overlay_heat(images, heat), captions, title, columns=6)
    low, high = metrics["accuracy_low"], metrics["accuracy_high"]
    print(f"test accuracy {metrics['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})", flush=True)


if __name__ == "__main__":
    run_stage(main)
