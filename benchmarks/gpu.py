"""Measure training on a GPU in a few minutes: time, accuracy, equal bytes, and the speed of resnet18.

dvc repro prepare
python -m benchmarks.gpu
pytest tests/integration/test_resume.py    trains on the GPU, kills and resumes
"""

import time
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.bench import measure, run_isolated
from src.data.dataset import Dataset
from src.device import set_up_device
from src.models.build import build_network
from src.training.loop import train
from src.training.state import TrainState
from tools.recipes import load_params, load_recipe

SEEDS = (0, 0, 1, 2)  # seed 0 twice, to compare its bytes


def measure_resnet18(side: int, count: int) -> dict[str, Any]:
    """Time an epoch of the recipe `photos` on `count` random color images, after a first one to warm up."""
    params = load_params(load_recipe("photos") | {"train.epochs": 1, "train.class_weight": 0})
    setup = set_up_device(params.compute)
    pixels = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)
    train_set = Dataset(pixels, np.arange(count, dtype=np.uint8) % 10, tuple("0123456789"))
    seconds = 0.0
    for _ in range(2):
        net = build_network(params.model, 10, train_set.image_shape, seed=0)
        state = TrainState(net, train_set, params.train, params.augmentation, setup, pretrained=False)
        start = time.perf_counter()
        train(state, train_set)
        seconds = time.perf_counter() - start
    return {"name": f"resnet18, {side} x {side}", "seconds": seconds, "images_per_s": count / seconds}


def main() -> None:
    runs = [run_isolated(measure, "default", {"train.seed": seed}) for seed in SEEDS]
    runs += [run_isolated(measure_resnet18, side, 6400) for side in (64, 224)]
    print(pd.DataFrame(runs).drop(columns="machine").to_string(index=False))
    print(f"{runs[0]['machine']}; seed 0 gave the same bytes twice: {runs[0]['sha256'] == runs[1]['sha256']}")


if __name__ == "__main__":
    main()
