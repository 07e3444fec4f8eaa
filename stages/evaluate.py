"""Evaluate the model on the test set, and show which parts of the images caused its most confident mistakes."""

from pathlib import Path

import numpy as np

from src.data.dataset import load_split
from src.device import prepare_compute
from src.drawing import draw_image_grid, overlay_heat
from src.metrics import classification_metrics, per_class_metrics
from src.models.explain import occlusion
from src.models.inference import predict
from src.models.model_file import check_test_set, load_model
from src.params import Params
from src.runtime.cli import run_stage
from src.runtime.files import write_csv, write_json

EXPLAINED = 12  # number of images in occlusion.png: 65 evaluations each


def main(params: Params, prepared: Path, model: Path, metrics: Path) -> None:
    device = prepare_compute(params.train).device  # the precision is checked but not used: inference is in float32
    test_set = load_split(prepared, "test")
    classifier, metadata = load_model(model)
    classes, labels = test_set.classes, test_set.labels
    check_test_set(test_set, metadata)
    log_probabilities = predict(classifier.to(device), test_set.images, device)
    values = classification_metrics(labels, log_probabilities.numpy(), params.evaluate.calibration_bins)
    write_json(metrics / "evaluate.json", values)
    best, guesses = log_probabilities.max(dim=1)
    confidence, predicted = best.exp().numpy(), guesses.numpy()
    actual_names, predicted_names = ([classes[index] for index in indices] for indices in (labels, predicted))
    predictions = {"index": range(len(labels)), "actual": actual_names, "predicted": predicted_names}
    predictions |= {"confidence": confidence.tolist()} | ({"file": test_set.files} if test_set.files else {})
    write_csv(metrics / "predictions.csv", list(predictions), zip(*predictions.values(), strict=True))
    table = {"class": classes, **per_class_metrics(labels, predicted, len(classes))}
    write_csv(metrics / "per_class.csv", list(table), zip(*table.values(), strict=True))

    mistakes = np.flatnonzero(predicted != labels)
    shown = mistakes[np.argsort(-confidence[mistakes], kind="stable")[:EXPLAINED]]
    images = test_set.images[shown]
    heat = occlusion(classifier, images, predicted[shown], device)
    captions = [f"{actual_names[index]}\n→ {predicted_names[index]}" for index in shown]
    title = "Most confident mistakes (actual → predicted). Colored: parts that caused the prediction"
    draw_image_grid(metrics / "occlusion.png", overlay_heat(images, heat), captions, title, columns=6)
    low, high = values["accuracy_low"], values["accuracy_high"]
    print(f"test accuracy {values['accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f})", flush=True)


if __name__ == "__main__":
    run_stage(main)
