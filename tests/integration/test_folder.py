"""The whole pipeline on a folder of images, with real dvc."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from src.data.dataset import SPLITS, load_split
from tests.helpers import commit, edit_params, new_clone, run

CLASSES = ["bird", "cat & dog", "émeu"]


def write_images(folder: Path, count: int) -> None:
    """Write `count` images per class: squares, bars or rings of any size, gray or RGB, in every format."""
    random = np.random.default_rng(0)
    for shape, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            height, width = random.integers(20, 90, 2)
            image = random.integers(0, 60, (height, width), np.uint8)
            image[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] += (190, 0, 190)[shape]
            image[height // 3 : 2 * height // 3] += (0, 190, 0)[shape]
            image[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] *= (1, 1, 0)[shape]
            picture = Image.fromarray(image).convert("RGB" if number % 2 else "L")
            picture.save(folder / name / f"{number}.{('png', 'jpeg', 'webp', 'bmp', 'tiff')[number % 5]}")


def test_pipeline_runs_on_a_folder_of_images(tmp_path: Path) -> None:
    folder = new_clone(tmp_path)
    write_images(folder / "data/sources/folder", 60)
    edit_params(
        folder,
        {
            "prepare.dataset": "folder",
            "prepare.validation": 30,
            "prepare.test": 0.2,
            "train.epochs": 8.0,
            "train.batch_size": 16,
            "train.normalize": "auto",
        },
    )
    run(["dvc", "repro"], folder)
    files = {file for split in SPLITS for file in load_split(folder / "data/prepared", split).files}
    assert files == {f"{path.parent.name}/{path.name}" for path in (folder / "data/sources/folder").glob("*/*")}

    metrics = json.loads((folder / "metrics/evaluate.json").read_text())
    assert list(pd.read_csv(folder / "metrics/per_class.csv")["class"]) == CLASSES
    assert metrics["accuracy"] > 0.9
    assert len(pd.read_csv(folder / "metrics/predictions.csv")) == 36
    assert "into 3 classes: bird, cat & dog, émeu" in (folder / "metrics/model_card.md").read_text()

    done = run(["python", "-m", "tools.predict", *(f"data/sources/folder/{name}/1.jpeg" for name in CLASSES)], folder)
    answers = [line.split(": ")[1] for line in done.stdout.splitlines()]
    assert all(answer.startswith(name) for answer, name in zip(answers, CLASSES, strict=True)), answers

    Image.linear_gradient("L").save(folder / "data/sources/folder/bird/new.png")
    assert "changed" in run(["dvc", "status", "prepare"], folder).stdout
    run(["dvc", "add", "data/sources/folder"], folder)
    commit(folder, "my images")
    run(["dvc", "exp", "run", "--temp", "--name", "with-it", "-S", "prepare.seed=1", "prepare"], folder)
    assert "with-it" in run(["dvc", "exp", "list"], folder).stdout
