"""Time the recipes against the notebook's way, in one run, on real MNIST: a table, results.json and a picture.

python -m benchmarks.bench            all recipes over their seeds, more than an hour on 2 cores
python -m benchmarks.bench --quick    the quick recipes, nothing written, some minutes
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from benchmarks.notebook_way import seconds_per_epoch
from benchmarks.picture import draw
from src.data.dataset import Dataset, load_dataset
from src.device import fingerprint, get_precision, prepare_device
from src.models.inference import test
from src.models.net import NETWORKS, fold_batch_norm, initialize
from src.params import Params, read_recipe, read_value, set_values
from src.runtime.files import write_json
from src.training.loop import fit, start

HERE = Path(__file__).parent
SEEDS = {"dash": 10, "sprint": 10, "fast": 5, "default": 5, "best": 5, "tiny": 10}
BATCHES = 60  # of the notebook's way, before the recipes and again after them


def recipe_params(name: str) -> Params:
    """params.yaml with the values of a recipe."""
    values = read_value(Path("params.yaml").read_text())
    set_values(values, {} if name == "default" else read_recipe(HERE / f"recipes/{name}.txt"))
    return Params.model_validate(values)


def whole_training_set() -> Dataset:
    """All 60,000 images, as the notebook trains on them."""
    parts = [load_dataset(Path(f"data/prepared/{name}.safetensors")) for name in ("train", "validation")]
    images, labels = (np.concatenate([getattr(part, key) for part in parts]) for key in ("images", "labels"))
    return Dataset(images, labels, parts[0].classes)


def measure(recipe: str, seed: int, engine: bool) -> dict[str, Any]:
    """One training in this process: from images in memory to final weights, then one look at the test set.

    `engine`: half an epoch of it, all at 28 x 28 pixels, only for its images a second.
    """
    params = recipe_params(recipe)
    changes: dict[str, Any] = {"low_resolution": 0.0, "epochs": 0.5} if engine else {}
    settings = params.train.model_copy(update={"seed": seed, **changes})
    device = prepare_device(settings)
    precision = get_precision(settings, device)
    training, test_set = whole_training_set(), load_dataset(Path("data/prepared/test.safetensors"))
    begin = time.perf_counter()
    net = NETWORKS[params.model.name](len(training.classes))
    initialize(net, settings.initialization, seed)
    for _ in fit(start(net, settings, device, precision), training, settings, device, precision):
        pass
    net = fold_batch_norm(net)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {
        "accuracy": test(net, test_set, settings.normalize, device)[1],
        "seconds": seconds,
        "images": len(training) * settings.epochs,
        "peak_memory_mb": peak,
        "parameters": sum(weight.numel() for weight in net.parameters()),
        "machine": fingerprint(device, precision),
    }


def in_own_process(*arguments: object) -> dict[str, Any]:
    """Run this module for one measurement, so that each has a fresh heap, and its own peak of memory."""
    command = [sys.executable, "-m", "benchmarks.bench", *map(str, arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def summarize(name: str, runs: list[dict[str, Any]], epoch: float) -> dict[str, Any]:
    """One recipe's row of results.json, `epoch` being the seconds of the notebook's way."""
    accuracy, seconds = [run["accuracy"] for run in runs], [run["seconds"] for run in runs]
    return {
        "name": name,
        "parameters": runs[0]["parameters"],
        "seeds": list(range(len(runs))),
        "accuracy": accuracy,
        "mean_accuracy": mean(accuracy),
        "sd_accuracy": stdev(accuracy) if len(runs) > 1 else None,
        "train_s": seconds,
        "mean_train_s": mean(seconds),
        "reference_epochs": mean(seconds) / epoch,
        "images_per_s": runs[0]["images"] / mean(seconds),
        "peak_memory_mb": max(run["peak_memory_mb"] for run in runs),
        "machine": runs[0]["machine"],
    }


def table(results: dict[str, Any]) -> str:
    """The results for a person, one line a recipe."""
    columns = ["name", "parameters", "mean_accuracy", "sd_accuracy", "mean_train_s", "reference_epochs"]
    shown = pd.DataFrame(results["recipes"])[[*columns, "images_per_s", "peak_memory_mb"]].round(4)
    return f"""{shown.to_string(index=False)}

Trained on {results["training_images"]:,} images. An epoch the notebook's way: {results["reference_epoch_s"]:.1f} s,
{results["reference_images_per_s"]:,.0f} images/s. `default` trains on {results["throughput_ratio"]:.2f} times as many,
and would on {results["full_resolution_ratio"]:.2f} times as many if it saw all of them at 28 x 28 pixels. Training
goes from images in memory to final weights, and is shown in seconds and in epochs of the notebook's way."""


def run(seeds: dict[str, int], batches: int) -> dict[str, Any]:
    """Measure everything; the notebook's way before and after the recipes, in case the machine changes its pace."""
    jobs = [(name, seed) for name, count in seeds.items() for seed in range(count)]
    before = in_own_process("--notebook", batches)["seconds"]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in seeds}
    for name, seed in tqdm(jobs, "trainings", unit="run", disable=None):
        runs[name].append(in_own_process("--recipe", name, "--seed", seed))
        last = runs[name][-1]
        tqdm.write(f"{name} seed {seed}: test accuracy {last['accuracy']:.4f} in {last['seconds']:.2f} s", sys.stderr)
    engine = in_own_process("--recipe", "default", "--engine")
    epochs = [before, in_own_process("--notebook", batches)["seconds"]]
    rows = [summarize(name, runs[name], mean(epochs)) for name in seeds]
    images = len(whole_training_set())
    per_second = images / mean(epochs)
    return {
        "reference_epoch_s": mean(epochs),
        "reference_epochs_s": epochs,
        "reference_images_per_s": per_second,
        "throughput_ratio": next(row["images_per_s"] for row in rows if row["name"] == "default") / per_second,
        "full_resolution_ratio": engine["images"] / engine["seconds"] / per_second,
        "training_images": images,
        "notebook_curve": pd.read_csv(HERE / "notebook_curve.csv")["validation_accuracy"].tolist(),
        "recipes": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="some minutes, nothing written")
    parser.add_argument("--recipe", choices=SEEDS, help="one training alone, as JSON")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", action="store_true", help="half an epoch of the recipe, at full resolution")
    parser.add_argument("--notebook", type=int, metavar="BATCHES", help="the notebook's way alone, as JSON")
    options = parser.parse_args()
    if options.engine and not options.recipe:
        parser.error("--engine needs --recipe")
    if options.notebook:
        print(json.dumps({"seconds": seconds_per_epoch(whole_training_set(), options.notebook)}))
    elif options.recipe:
        print(json.dumps(measure(options.recipe, options.seed, options.engine)))
    elif options.quick:
        print(table(run({"dash": 2, "sprint": 1, "default": 1}, BATCHES // 3)))
    else:
        results = run(SEEDS, BATCHES)
        write_json(HERE / "results.json", results)
        draw(HERE / "accuracy.png", results)
        print(table(results))


if __name__ == "__main__":
    main()
