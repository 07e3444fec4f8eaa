"""The train stage on tiny data: what it writes, and what it says if something is wrong."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn

from src.data.dataset import Dataset, load_split, save_split
from src.data.tensor_file import load_tensors, read_digest
from src.models.inference import Classifier, evaluate
from src.models.model_file import load_model
from src.models.registry import register
from src.params.base import load_sections
from src.params.train import TrainParams
from src.training.hold_out import split_training_images
from tests.helpers import edit_params, is_error, random_dataset, run_stage_in

PREPARED, METRICS, MODEL = Path("data/prepared"), Path("metrics"), Path("data/model/model.safetensors")


@pytest.fixture
def prepared(tiny: Path) -> Path:
    """The folder after `prepare`, with parameters for one epoch of a small network."""
    edit_params(tiny, {"model.name": "dash", "train.epochs": 1, "compute.precision": "fp32"})
    run_stage_in(tiny, "prepare", check=True)
    return tiny


def outputs(folder: Path) -> list[str]:
    found = [path for name in ("metrics", "data/model") for path in (folder / name).rglob("*")]
    return sorted(str(path.relative_to(folder)) for path in found)


def test_train_writes_the_model_and_its_metrics(prepared: Path) -> None:
    done = run_stage_in(prepared, "train", check=True)
    files = ["first_batch.safetensors", "margins.csv", "model.safetensors", "validation.csv"]
    assert outputs(prepared) == [*(f"data/model/{file}" for file in files), "metrics/history.csv", "metrics/train.json"]
    tables = [pd.read_csv(prepared / "data/model" / f"{name}.csv") for name in ("margins", "validation")]
    assert list(map(len, tables)) == [280, 50]
    first_batch, _ = load_tensors(prepared / "data/model/first_batch.safetensors")
    assert first_batch["images"].shape == (40, 28, 28)
    assert sorted(pd.concat(tables)["index"]) == list(range(330))
    assert (tables[0]["actual"] != tables[0]["suggested"]).all()
    assert not list((prepared / "data/checkpoints").iterdir())
    assert "Total params: 38,570" in done.stdout
    assert "epoch 1  learning rate " in done.stdout
    metrics = json.loads((prepared / METRICS / "train.json").read_text())
    assert (metrics["num_params"], metrics["epoch"]) == (38_570, 1)
    header, *rows = (prepared / METRICS / "history.csv").read_text().splitlines()
    assert header.split(",") == [
        *("epoch", "learning_rate", "train_loss", "train_accuracy"),
        *("validation_loss", "validation_accuracy", "validation_balanced_accuracy"),
    ]
    assert [row.split(",")[0] for row in rows] == ["0.2", "0.4", "0.6", "0.8", "1.0"]  # a row per step
    _, metadata = load_model(prepared / MODEL)
    assert (metadata.network, metadata.input_shape, metadata.classes) == ("dash", (1, 28, 28), tuple("0123456789"))
    assert (metadata.source, metadata.run["train"]["epochs"]) == ("mnist", 1)
    assert metadata.run["data"] == read_digest(prepared / PREPARED / "train.safetensors")


def test_missing_device_is_an_error(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    edit_params(prepared, {"compute.device": "cuda"})
    assert is_error(
        run_stage_in(prepared, "train"),
        "error: compute.device is cuda, but torch ",
        "hint: dvc exp run -S compute.device=auto",
    )
    assert outputs(prepared) == []


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.name", "zebra", "error: model.name is zebra, expected "),
        ("model.name", "alexnet", "error: model.name is alexnet, which does not accept images of shape (1, 28, 28) "),
        ("train.batch_size", 31, "error: train.batch_size 31 leaves 1 of 280 images in the last batch"),
    ],
)
def test_settings_that_do_not_fit_the_images_are_an_error(
    prepared: Path, key: str, value: object, message: str
) -> None:
    edit_params(prepared, {key: value})
    assert is_error(run_stage_in(prepared, "train"), message, "hint: dvc exp run -S ")
    assert outputs(prepared) == []


def test_diverging_training_is_an_error_without_a_model(prepared: Path) -> None:
    changes = {"optimizer": "sgd", "learning_rate": 10, "momentum": 0.9, "warmup": 0}
    edit_params(prepared, {"model.name": "net", **{f"train.{key}": value for key, value in changes.items()}})
    assert is_error(
        run_stage_in(prepared, "train"),
        "error: training diverged with train.learning_rate 10: epoch ",
        "hint: dvc exp run -S train.learning_rate=1",
    )
    assert not (prepared / MODEL).exists()


def test_full_disk_keeps_the_state_for_the_next_run(prepared: Path, small_disk: Path) -> None:
    """The model of `dash32` takes 567 KB, the disk has 200 KiB."""
    edit_params(prepared, {"model.name": "dash32"})
    (prepared / "data/model").symlink_to(small_disk)
    done = run_stage_in(prepared, "train")
    assert is_error(done, f"error: {MODEL} cannot be read or written: No space left on device", "hint: df -h")
    assert not list(small_disk.iterdir())
    (prepared / "data/model").unlink()
    assert "resuming after step 5 of 5 from data/checkpoints/" in run_stage_in(prepared, "train", check=True).stdout
    assert (prepared / MODEL).exists()


def train_on_color(folder: Path, changes: dict[str, Any]) -> Classifier:
    """Train and evaluate a network of torchvision on dark images of 32 x 32 pixels. Return it."""
    for seed, (split, count) in enumerate({"train": 50, "test": 10}.items()):
        noise = random_dataset(count, seed, side=32, channels=3)
        dark = Dataset(noise.images // 3, noise.labels, noise.classes, fit="crop")
        save_split(folder / PREPARED, split, dark)
    settings = {"model.name": "shufflenet_v2_x0_5", "train.batch_size": 8, "train.epochs": 2, "train.validation": 10}
    edit_params(folder, settings | {"compute.precision": "fp32"} | changes)
    for stage in ("train", "evaluate"):
        run_stage_in(folder, stage, check=True)
    classifier, metadata = load_model(folder / MODEL)
    assert (metadata.input_shape, metadata.source, metadata.fit) == ((3, 32, 32), "folder", "crop")
    return classifier


def split_of(folder: Path, pool: Dataset) -> tuple[Dataset, Dataset]:
    """Return the training and validation images that the params.yaml of this folder selects."""
    return split_training_images(pool, load_sections(folder / "params.yaml", {"train": TrainParams})["train"])


def uses(folder: Path, classifier: Classifier) -> bool:
    """Return whether the losses that `train` and `evaluate` wrote are those of this classifier.

    Training does not know the temperature yet.
    """
    at_1 = Classifier(classifier.net, classifier.normalization, classifier.test_time_augmentation)
    pool, test_set = (load_split(folder / PREPARED, split) for split in ("train", "test"))
    pairs = [(at_1, split_of(folder, pool)[1]), (classifier, test_set)]
    losses = [evaluate(each, data, torch.device("cpu"))["loss"] for each, data in pairs]
    files = [("train.json", "validation_loss"), ("evaluate.json", "loss")]
    return losses == pytest.approx(
        [json.loads((folder / METRICS / file).read_text())[key] for file, key in files], rel=1e-5
    )


def test_normalization_and_test_time_augmentation_are_saved_and_used_by_evaluate(tiny: Path) -> None:
    classifier = train_on_color(tiny, {"train.test_time_augmentation": "shift"})
    assert classifier.test_time_augmentation == "shift"
    pool = load_split(tiny / PREPARED, "train")
    pixels = split_of(tiny, pool)[0].images[:].reshape(-1, 3) / 255
    assert classifier.normalization.mean == [round(value, 4) for value in pixels.mean(axis=0).tolist()]
    assert classifier.normalization.std == [round(value, 4) for value in pixels.std(axis=0).tolist()]
    assert uses(tiny, classifier)


def test_new_network_needs_only_to_be_registered(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def linear(num_classes: int, shape: tuple[int, int, int]) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), num_classes))

    monkeypatch.setattr("src.models.registry.NETWORKS", {})
    register("linear")(linear)
    edit_params(prepared, {"model.name": "linear"})
    run_stage_in(prepared, "train", check=True)
    assert load_model(prepared / MODEL)[1].network == "linear"
    assert "test accuracy 0." in run_stage_in(prepared, "evaluate", check=True).stdout
