"""Time the recipes and the notebook's training on real images, and write results.json and accuracy.png.

python -m benchmarks.bench              `dash` to `fashion`, all seeds: about two hours on 2 cores
python -m benchmarks.bench best fast    only these recipes; the results of the others stay
"""

import argparse
import copy
import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.baseline import measure_baseline
from benchmarks.report import plot_error_against_time, summarize
from src.data.dataset import Dataset
from src.device import set_up_device
from src.models.build import build_network
from src.models.inference import evaluate
from src.models.model_file import to_arrays
from src.runtime.files import write_json
from src.sources.download import decode, download, read_spec
from src.training.loop import train
from src.training.state import TrainState
from tools.recipes import load_params, load_recipe

HERE = Path(__file__).parent
SEEDS = {"dash": 10, "sprint": 10, "fast": 5, "default": 5, "best": 5, "fashion": 3}


def load_whole_dataset(name: str) -> tuple[Dataset, Dataset]:
    """Return all 60,000 training images, as the notebook uses them, and the test set of "mnist" or "fashion-mnist"."""
    spec = read_spec(Path("data/sources", name))
    files = download(Path("data/raw", name), spec)
    # copies, because torch warns about read-only arrays
    train_set, test_set = (copy.deepcopy(decode(files, prefix, spec.classes, name)) for prefix in ("train", "t10k"))
    return train_set, test_set


def measure(recipe: str, changes: dict[str, object]) -> dict[str, Any]:
    """Time one training in this process, from images in memory to final weights, and evaluate it on the test set.

    Args:
        recipe: "default" or a file in `recipes/`.
        changes: values by dotted key that replace those of the recipe.
    """
    params = load_params(load_recipe(recipe) | changes)
    setup = set_up_device(params.compute)
    train_set, test_set = load_whole_dataset(params.prepare.dataset)
    start = time.perf_counter()
    net = build_network(params.model, len(train_set.classes), train_set.image_shape, params.train.seed)
    state = TrainState(net, train_set, params.train, params.augmentation, setup, params.model.pretrained)
    train(state, train_set)
    seconds = time.perf_counter() - start
    weights = b"".join(array.tobytes() for array in to_arrays(net.state_dict()).values())
    return {
        "name": recipe,
        "num_params": sum(weight.numel() for weight in net.parameters()),
        "accuracy": evaluate(state.classifier, test_set, setup.device)["accuracy"],
        "seconds": seconds,
        "images_per_s": len(train_set) * params.train.epochs / seconds,
        "sha256": hashlib.sha256(weights).hexdigest(),
        "machine": str(setup),
    }


def run_isolated(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a new process, with a fresh heap, and print what it returns."""
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
    parser.add_argument("recipes", nargs="*", default=list(SEEDS), help=f"out of {', '.join(SEEDS)}")
    names = parser.parse_args().recipes
    if unknown := set(names) - set(SEEDS):
        parser.error(f"no recipe of the benchmark: {', '.join(unknown)}")
    path, runs = HERE / "results.json", run({name: SEEDS[name] for name in names})
    print(summarize(pd.DataFrame(runs)).to_string())
    measured = {row["name"] for row in runs}
    runs += [row for row in json.loads(path.read_text())["runs"] if row["name"] not in measured]
    write_json(path, {"runs": runs})
    plot_error_against_time(HERE / "accuracy.png", pd.DataFrame(runs))


if __name__ == "__main__":
    main()
