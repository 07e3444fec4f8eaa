"""Time the recipes and the notebook's training on real images: a table, results.json and accuracy.png.

python -m benchmarks.bench              all recipes and seeds: about two hours on 2 cores
python -m benchmarks.bench best fast    only these recipes; results.json keeps the others
python -m benchmarks.bench --quick      the quick recipes: a few minutes, and nothing is written
"""

import argparse
import copy
import json
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd

from benchmarks.baseline import measure_baseline
from benchmarks.report import plot_error_against_time, summarize
from src.data.dataset import Dataset
from src.device import set_up_device
from src.models.inference import evaluate
from src.models.pretrained import build_network
from src.runtime.files import write_json
from src.sources.download import decode, download, read_spec
from src.training.loop import create_train_state, train
from tools.recipes import load_params, read_recipe

HERE = Path(__file__).parent
SEEDS = {"dash": 10, "sprint": 10, "fast": 5, "default": 5, "best": 5, "fashion": 5}
QUICK_SEEDS = {"dash": 2, "sprint": 1, "default": 1}
MAXRSS_PER_MB = 2**20 if sys.platform == "darwin" else 2**10  # getrusage returns bytes on macOS, else KiB


def recipe_params(name: str, changes: Mapping[str, object] | None = None) -> SimpleNamespace:
    """Return params.yaml with the values of a recipe, and with further changes."""
    recipe = {} if name == "default" else read_recipe(HERE / f"recipes/{name}.txt")
    return load_params(recipe | dict(changes or {}))


def load_dataset(name: str) -> tuple[Dataset, Dataset]:
    """Return all 60,000 training images, as the notebook uses them, and the test set of "mnist" or "fashion-mnist"."""
    spec = read_spec(Path("data/sources", name))
    files = download(Path("data/raw", name), spec)
    # copies, because torch warns about read-only arrays
    train_set, test_set = (copy.deepcopy(decode(files, prefix, spec.classes, name)) for prefix in ("train", "t10k"))
    return train_set, test_set


def download_datasets(recipes: Iterable[str]) -> None:
    """Download what the recipes need, so that a failure ends the benchmark before its first measurement."""
    for name in {recipe_params(recipe).prepare.dataset for recipe in recipes}:
        download(Path("data/raw", name), read_spec(Path("data/sources", name)))


def measure(recipe: str, changes: dict[str, object]) -> dict[str, Any]:
    """Time one training in this process, from images in memory to final weights, and evaluate it on the test set.

    Args:
        recipe: "default" or a file in `recipes/`.
        changes: values by dotted key that replace those of the recipe.
    """
    params = recipe_params(recipe, changes)
    setup = set_up_device(params.compute)
    train_set, test_set = load_dataset(params.prepare.dataset)
    start = time.perf_counter()
    net = build_network(params.model, len(train_set.classes), train_set.image_shape, params.train.seed)
    state = create_train_state(net, train_set, params.train, params.augmentation, setup)
    train(state, train_set)
    seconds = time.perf_counter() - start
    return {
        "name": recipe,
        "parameters": sum(weight.numel() for weight in net.parameters()),
        "accuracy": evaluate(state.classifier, test_set, setup.device)[1],
        "seconds": seconds,
        "images_per_s": len(train_set) * params.train.epochs / seconds,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_PER_MB,
        "machine": str(setup),
    }


def run_isolated(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a new process, with a fresh heap and its own peak of memory, and print what it returns.

    A new process inherits the peak of its parent, so this process trains nothing itself.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        result = executor.submit(function, *arguments).result()
    print(result, flush=True)
    return result


def run(seeds: dict[str, int]) -> list[dict[str, Any]]:
    """Measure recipes, and the notebook's training before and after them, in case the machine's speed changes.

    "throughput" is the speed of this pipeline with the notebook's network, batches and augmentation. "epochs" of a run
    is its time in epochs of the notebook's training.
    """
    runs = [
        run_isolated(measure_baseline),
        *(run_isolated(measure, name, {"train.seed": seed}) for name, count in seeds.items() for seed in range(count)),
        run_isolated(measure, "notebook", {"train.epochs": 0.5, "compute.precision": "auto"}) | {"name": "throughput"},
        run_isolated(measure_baseline),
    ]
    epoch = (runs[0]["seconds"] + runs[-1]["seconds"]) / 2
    return [row | {"epochs": row["seconds"] / epoch} for row in runs]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the quick recipes: a few minutes, and nothing is written")
    parser.add_argument("recipes", nargs="*", help=f"recipes to measure again, out of {', '.join(SEEDS)}")
    options = parser.parse_args()
    if options.quick and options.recipes:
        parser.error("--quick measures its own recipes")
    if unknown := set(options.recipes) - set(SEEDS):
        parser.error(f"no recipe of the benchmark: {', '.join(unknown)}")
    seeds = {name: SEEDS[name] for name in options.recipes}
    measured = QUICK_SEEDS if options.quick else seeds or SEEDS
    download_datasets(measured)
    runs = run(measured)
    print(summarize(pd.DataFrame(runs)).to_string())
    if options.quick:
        return
    if seeds:
        others = json.loads((HERE / "results.json").read_text())["runs"]
        runs = [row for row in others if row["name"] not in seeds] + [row for row in runs if row["name"] in seeds]
    write_json(HERE / "results.json", {"runs": runs})
    plot_error_against_time(HERE / "accuracy.png", pd.DataFrame(runs))


if __name__ == "__main__":
    main()
