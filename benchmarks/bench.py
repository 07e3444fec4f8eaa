"""Time the recipes and the notebook's training on real MNIST: a table, results.json and accuracy.png.

python -m benchmarks.bench            all recipes and seeds: more than an hour on 2 cores
python -m benchmarks.bench --quick    the quick recipes: some minutes, and nothing is written
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.baseline import seconds_per_epoch
from benchmarks.plot import plot_error_against_time
from src.data.dataset import Dataset, load_split
from src.device import prepare_compute
from src.models.batch_norm import fold_batch_norm
from src.models.inference import evaluate
from src.models.init import init_weights
from src.params import Params, check_params, load_yaml, override, read_recipe
from src.registry import create_model
from src.runtime.files import write_json
from src.training.loop import train
from src.training.state import create_train_state

HERE, PREPARED = Path(__file__).parent, Path("data/prepared")
SEEDS = {"dash": 10, "sprint": 10, "fast": 5, "default": 5, "best": 5, "tiny": 10}
QUICK_SEEDS = {"dash": 2, "sprint": 1, "default": 1}
MAXRSS_PER_MB = 2**20 if sys.platform == "darwin" else 2**10  # getrusage returns bytes on macOS, else KiB


def recipe_params(name: str) -> Params:
    """Return params.yaml with the values of a recipe."""
    values = load_yaml(Path("params.yaml").read_text())
    override(values, {} if name == "default" else read_recipe(HERE / f"recipes/{name}.txt"))
    return check_params(values, f"params.yaml with the recipe {name}")


def load_train_set() -> Dataset:
    """Return all 60,000 training images, as the notebook uses them: the prepared splits train and validation."""
    parts = [load_split(PREPARED, split) for split in ("train", "validation")]
    images, labels = (np.concatenate([getattr(part, key) for part in parts]) for key in ("images", "labels"))
    return Dataset(images, labels, parts[0].classes)


def measure(recipe: str, changes: dict[str, float]) -> dict[str, Any]:
    """Time one training in this process, from images in memory to final weights, and evaluate it on the test set.

    Args:
        recipe: a name in `SEEDS`.
        changes: values of the section `train` that replace those of the recipe.
    """
    params = recipe_params(recipe)
    settings = params.train.model_copy(update=changes)
    compute = prepare_compute(settings)
    train_set, test_set = load_train_set(), load_split(PREPARED, "test")
    start = time.perf_counter()
    net = create_model(params.model.name, len(train_set.classes))
    init_weights(net, settings.initialization, settings.seed)
    with redirect_stdout(None):  # training prints its epochs
        train(create_train_state(net, params.model.name, len(train_set), settings, compute), train_set)
    net = fold_batch_norm(net)
    seconds = time.perf_counter() - start
    return {
        "name": recipe,
        "parameters": sum(weight.numel() for weight in net.parameters()),
        "accuracy": evaluate(net, test_set, settings.normalize, compute.device)[1],
        "seconds": seconds,
        "images_per_s": len(train_set) * settings.epochs / seconds,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MAXRSS_PER_MB,
        "machine": compute.fingerprint,
    }


def run_isolated(function: Callable[..., Any], *arguments: object) -> Any:
    """Call a function in a new process, with a fresh heap and its own peak of memory.

    The peak counts from that of this process, which therefore trains nothing itself.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        return executor.submit(function, *arguments).result()


def summarize(runs: list[dict[str, Any]], baseline_epoch: float) -> pd.DataFrame:
    """Return one row per recipe, indexed by its name.

    Args:
        runs: what `measure` returns.
        baseline_epoch: seconds of one epoch of the notebook's training.
    """
    table = pd.DataFrame(runs)
    table["epochs"] = table["seconds"] / baseline_epoch
    return table.groupby("name", sort=False).agg(
        parameters=("parameters", "first"),
        accuracy=("accuracy", list),
        mean_accuracy=("accuracy", "mean"),
        sd_accuracy=("accuracy", "std"),
        train_s=("seconds", list),
        mean_train_s=("seconds", "mean"),
        reference_epochs=("epochs", "mean"),
        images_per_s=("images_per_s", "mean"),
        peak_memory_mb=("peak_memory_mb", "max"),
        machine=("machine", "first"),
    )


def run(seeds: dict[str, int]) -> dict[str, Any]:
    """Measure all recipes, and the notebook's training before and after them, in case the machine's speed changes."""
    train_set, runs = load_train_set(), []
    before = run_isolated(seconds_per_epoch, train_set)
    for name, count in seeds.items():
        for seed in range(count):
            runs.append(run_isolated(measure, name, {"seed": seed}))
            print(f"{name} {seed}: test accuracy {runs[-1]['accuracy']:.4f}, {runs[-1]['seconds']:.2f} s", flush=True)
    full_resolution = run_isolated(measure, "default", {"low_res_fraction": 0.0, "epochs": 0.5})
    epoch = mean([before, run_isolated(seconds_per_epoch, train_set)])
    summary, images_per_s = summarize(runs, epoch), len(train_set) / epoch
    return {
        "reference_epoch_s": epoch,
        "throughput_ratio": summary.loc["default", "images_per_s"] / images_per_s,
        "full_resolution_ratio": full_resolution["images_per_s"] / images_per_s,
        "recipes": summary.reset_index().replace({np.nan: None}).to_dict("records"),  # JSON has no NaN
    }


def format_table(results: dict[str, Any]) -> str:
    """Return the results as text, one line per recipe."""
    columns = ["name", "parameters", "mean_accuracy", "sd_accuracy", "mean_train_s", "reference_epochs"]
    table = pd.DataFrame(results["recipes"])[[*columns, "images_per_s", "peak_memory_mb"]].round(4)
    return f"""{table.to_string(index=False)}

mean_train_s is the time from images in memory to final weights. An epoch of the notebook's training takes
{results["reference_epoch_s"]:.1f} s. Per second, `default` trains on {results["throughput_ratio"]:.2f} times as many
images, or {results["full_resolution_ratio"]:.2f} times as many if all of them have 28 x 28 pixels."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the quick recipes: some minutes, and nothing is written")
    quick = parser.parse_args().quick
    results = run(QUICK_SEEDS if quick else SEEDS)
    print(format_table(results))
    if not quick:
        write_json(HERE / "results.json", results)
        plot_error_against_time(HERE / "accuracy.png", results)


if __name__ == "__main__":
    main()
