"""The train stage on tiny data: what it writes, and what it says if something is wrong."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import get_model_weights

from src.data.dataset import Dataset, load_split, save_dataset
from src.models.inference import Classifier, evaluate
from src.models.model_file import load_model
from src.params import Normalize, Params
from src.registry import MODELS, ModelSpec
from src.runtime.errors import PipelineError
from stages.evaluate import main as evaluate_stage
from stages.train import main
from tests.helpers import UNREACHABLE, edit_params, is_error, random_dataset, run_stage_in

PREPARED, CHECKPOINTS, METRICS = Path("data/prepared"), Path("data/checkpoints"), Path("metrics")
MODEL = Path("data/model/model.safetensors")
TRAIN = PREPARED / "train.safetensors"


class Perceptron(nn.Sequential):
    """A network that a test registers."""

    def __init__(self, classes: int) -> None:
        super().__init__(nn.Flatten(), nn.Linear(28 * 28, 8), nn.ReLU())
        self.add_module("head", nn.Linear(8, classes))


@pytest.fixture
def prepared(tiny: Path) -> Path:
    """The folder after `prepare`, with parameters for one epoch of a small network."""
    changes = {"optimizer": "muon", "epochs": 1, "precision": "fp32"}
    edit_params(tiny, {"model.name": "dash", **{f"train.{name}": value for name, value in changes.items()}})
    run_stage_in(tiny, "prepare", check=True)
    return tiny


def outputs(folder: Path) -> list[str]:
    found = [path for name in ("metrics", "data/model") for path in (folder / name).rglob("*")]
    return sorted(str(path.relative_to(folder)) for path in found)


def test_train_writes_the_model_and_its_metrics(prepared: Path) -> None:
    done = run_stage_in(prepared, "train", check=True)
    assert outputs(prepared) == ["data/model/model.safetensors", "metrics/history.csv", "metrics/train.json"]
    assert "Total params: 38,570" in done.stdout
    assert "epoch 1/1  learning rate " in done.stdout
    assert "5 steps of 64 images in " in done.stdout
    metrics = json.loads((prepared / METRICS / "train.json").read_text())
    assert (metrics["parameters"], metrics["epoch"]) == (38_570, 1)
    assert dict(metrics["fingerprint"]) == {
        "torch": torch.__version__,
        "device": f"cpu {torch.backends.cpu.get_cpu_capability()}",
        "precision": "float32",
        "threads": 1,
    }
    header, *rows = (prepared / METRICS / "history.csv").read_text().splitlines()
    assert header == "epoch,learning_rate,train_loss,train_accuracy,validation_loss,validation_accuracy"
    assert [row.split(",")[0] for row in rows] == ["0.2", "0.4", "0.6", "0.8", "1.0"]  # a row per step
    _, metadata = load_model(prepared / MODEL)
    assert (metadata.network, metadata.input_shape, metadata.classes) == ("dash", (1, 28, 28), tuple("0123456789"))
    assert (metadata.run["model"]["name"], metadata.run["train"]["epochs"]) == ("dash", 1)
    assert list(metadata.run["data"]) == ["train", "validation"]


def test_finished_training_leaves_no_checkpoint(prepared: Path) -> None:
    run_stage_in(prepared, "train", check=True)
    assert not any((prepared / CHECKPOINTS).iterdir())
    assert not list(prepared.rglob("*.part"))


def test_equal_runs_write_equal_bytes(prepared: Path) -> None:
    contents = []
    for _ in range(2):
        run_stage_in(prepared, "train", check=True)
        contents.append([(prepared / path).read_bytes() for path in outputs(prepared)])
        shutil.rmtree(prepared / "data/model")
    assert contents[0] == contents[1]


def test_missing_device_is_an_error(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    edit_params(prepared, {"train.device": "cuda"})
    assert is_error(
        run_stage_in(prepared, "train"),
        "error: train.device is cuda, but torch ",
        "hint: dvc exp run -S train.device=auto",
    )
    assert outputs(prepared) == []


def test_several_mistakes_in_params_are_one_error(prepared: Path) -> None:
    edit_params(prepared, {"train.epochz": 1, "train.batch_size": "many", "plot.dpy": 100})
    assert is_error(
        run_stage_in(prepared, "train"),
        "error: params.yaml has 3 mistakes:",
        "       train.batch_size: found 'many', expected a valid integer",
        "       train.epochz: unknown key; did you mean epochs?",
        "       plot.dpy: unknown key; did you mean dpi?",
    )
    assert outputs(prepared) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.unlink(), "no such file"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "not a file that this pipeline wrote"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\xff"), "the content has SHA-256"),
    ],
)
def test_missing_or_damaged_data_are_an_error(prepared: Path, damage, message: str) -> None:
    damage(prepared / TRAIN)
    done = run_stage_in(prepared, "train")
    assert is_error(done, f"{TRAIN} is not a prepared data set: {message}", "dvc repro --force --single-item prepare")
    assert outputs(prepared) == []


def test_batch_of_one_image_is_an_error(prepared: Path) -> None:
    edit_params(prepared, {"model.name": "resnet18", "train.batch_size": 31})
    assert is_error(
        run_stage_in(prepared, "train"),
        "error: train.batch_size 31 leaves 1 of 280 images in the last batch, expected at least 2",
        "hint: dvc exp run -S train.batch_size=33",
    )
    assert outputs(prepared) == []


def test_images_of_another_size_are_an_error(prepared: Path) -> None:
    train_set = load_split(prepared / PREPARED, "train")
    large = np.pad(train_set.images, ((0, 0), (2, 2), (2, 2)))
    save_dataset(prepared / TRAIN, type(train_set)(large, train_set.labels, train_set.classes))
    done = run_stage_in(prepared, "train")
    assert is_error(
        done,
        "error: the prepared images have 1 channels and 32 x 32 pixels, but prepare.channels is 1 and prepare.image_",
        "hint: dvc repro   # prepares them again",
    )
    assert outputs(prepared) == []


def test_diverging_training_is_an_error_without_a_model(prepared: Path) -> None:
    changes = {"optimizer": "sgd", "learning_rate": 10, "momentum": 0.9, "initialization": "kaiming"}
    edit_params(prepared, {"model.name": "net", **{f"train.{name}": value for name, value in changes.items()}})
    assert is_error(
        run_stage_in(prepared, "train"),
        "error: training diverged at epoch 0.6 with train.learning_rate 10: train_loss ",
        "hint: dvc exp run -S train.learning_rate=1",
    )
    assert not (prepared / MODEL).exists()


def test_full_disk_keeps_the_state_for_the_next_run(prepared: Path, small_disk: Path) -> None:
    """The model of `dash` takes 155 KB, the disk has 72 KiB."""
    (prepared / "data/model").symlink_to(small_disk)
    done = run_stage_in(prepared, "train")
    assert is_error(done, f"error: {MODEL} cannot be read or written: No space left on device", "hint: df -h")
    assert not list(small_disk.iterdir())
    (prepared / "data/model").unlink()
    assert "resuming after step 5 of 5 from data/checkpoints/" in run_stage_in(prepared, "train", check=True).stdout
    assert (prepared / MODEL).exists()


@pytest.fixture
def small_params(params: Params) -> Params:
    """Half an epoch of a small network."""
    changes = {"threads": 1, "epochs": 0.5, "precision": "fp32"}
    return with_model(params.model_copy(update={"train": params.train.model_copy(update=changes)}), "tiny")


def with_model(params: Params, name: str) -> Params:
    return params.model_copy(update={"model": params.model.model_copy(update={"name": name})})


def test_main_reads_the_paths_that_it_is_given(
    tmp_path: Path, small_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for split in ("train", "validation"):
        save_dataset(tmp_path / f"in/{split}.safetensors", random_dataset(20))
    main(small_params, tmp_path / "in", tmp_path / "saved", tmp_path / "out/a", tmp_path / "numbers")
    assert load_model(tmp_path / "out/a")[1].network == "tiny"
    with pytest.raises(PipelineError, match="no such file"):
        main(small_params, tmp_path / "elsewhere", tmp_path / "saved", tmp_path / "out/a", tmp_path / "numbers")


def color_params(params: Params, name: str, **train: object) -> Params:
    """Return parameters for an epoch of five steps on color images of 32 x 32 pixels."""
    values = params.model_dump()
    values["prepare"] |= {"dataset": "folder", "channels": 3, "image_size": 32, "fit": "crop"}
    values["model"]["name"] = name
    values["train"] |= {"batch_size": 8, "epochs": 1.0, "threads": 1, "precision": "fp32"}
    values["train"] |= {"learning_rate": 0.01, **train}
    return Params.model_validate(values)


def write_color_splits(folder: Path) -> Dataset:
    """Write 40 dark, 10 and 10 images; return the first."""
    for seed, (split, count) in enumerate({"train": 40, "validation": 10, "test": 10}.items()):
        noise = random_dataset(count, seed, side=32, channels=3)
        files = tuple(f"{noise.classes[label]}/{index}.png" for index, label in enumerate(noise.labels))
        save_dataset(folder / f"{split}.safetensors", Dataset(noise.images // 3, noise.labels, noise.classes, files))
    return load_split(folder, "train")


def test_network_of_torchvision_trains_on_color_images_and_is_evaluated_with_the_measured_normalization(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`train.normalize: auto` is measured on the training images, stored with the model and used by `evaluate`."""
    monkeypatch.chdir(tmp_path)
    pixels = write_color_splits(PREPARED).images.reshape(-1, 3) / 255
    params = color_params(params, "shufflenet_v2_x0_5", normalize="auto", learning_rate=0.3, epochs=2.0)
    main(params, PREPARED, CHECKPOINTS, MODEL, METRICS)
    classifier, metadata = load_model(MODEL)
    assert (metadata.network, metadata.input_shape) == ("shufflenet_v2_x0_5", (3, 32, 32))
    assert (metadata.dataset, metadata.fit) == ("folder", "crop")
    assert metadata.normalize.mean == [round(value, 4) for value in pixels.mean(axis=0).tolist()]
    assert metadata.normalize.std == [round(value, 4) for value in pixels.std(axis=0).tolist()]
    evaluate_stage(params, PREPARED, MODEL, METRICS)
    loss, accuracy = evaluate(classifier, load_split(PREPARED, "test"), torch.device("cpu"))
    found = json.loads((METRICS / "evaluate.json").read_text())
    assert (found["loss"], found["accuracy"]) == (pytest.approx(loss, rel=1e-5), pytest.approx(accuracy))
    other = Classifier(classifier.net, Normalize(mean=[0.5] * 3, std=[0.5] * 3), test_time_augmentation=False)
    assert evaluate(other, load_split(PREPARED, "test"), torch.device("cpu"))[0] != pytest.approx(loss, rel=1e-3)


def test_test_time_augmentation_is_stored_with_the_model_and_used_by_train_and_evaluate(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_color_splits(PREPARED)
    params = color_params(params, "squeezenet1_1", test_time_augmentation=True)
    main(params, PREPARED, CHECKPOINTS, MODEL, METRICS)
    evaluate_stage(params, PREPARED, MODEL, METRICS)
    classifier, metadata = load_model(MODEL)
    plain = Classifier(classifier.net, metadata.normalize, test_time_augmentation=False)
    for split, file, key in (("validation", "train.json", "validation_loss"), ("test", "evaluate.json", "loss")):
        data, found = load_split(PREPARED, split), json.loads((METRICS / file).read_text())[key]
        assert found == pytest.approx(evaluate(classifier, data, torch.device("cpu"))[0], rel=1e-5)
        assert found != pytest.approx(evaluate(plain, data, torch.device("cpu"))[0], rel=1e-5)


def test_given_normalization_is_stored_with_the_model(
    tmp_path: Path, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_color_splits(PREPARED)
    given = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    main(color_params(params, "squeezenet1_1", normalize=given), PREPARED, CHECKPOINTS, MODEL, METRICS)
    assert load_model(MODEL)[1].normalize == Normalize(**given)


def test_missing_pretrained_weights_are_an_error_without_a_model(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    weights = get_model_weights("squeezenet1_1").DEFAULT
    monkeypatch.setattr(weights, "_value_", replace(weights.value, url=f"{UNREACHABLE}/squeezenet1_1-b8a52dc0.pth"))
    edit_params(prepared, {"model.name": "squeezenet1_1", "model.pretrained": True})
    assert is_error(
        run_stage_in(prepared, "train"),
        f"error: the pretrained weights of squeezenet1_1 cannot be downloaded from {UNREACHABLE}/squeezenet1_1-b8a52",
        f"hint: cp /path/to/squeezenet1_1-b8a52dc0.pth {tmp_path}/torch/hub/checkpoints/squeezenet1_1-b8a52dc0.pth",
    )
    assert outputs(prepared) == []


def test_new_network_needs_only_an_entry_in_the_registry(
    prepared: Path, small_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(prepared)
    monkeypatch.setitem(MODELS, "perceptron", ModelSpec(f"{__name__}:Perceptron"))
    main(with_model(small_params, "perceptron"), PREPARED, CHECKPOINTS, MODEL, METRICS)
    assert load_model(MODEL)[1].network == "perceptron"
    assert "test accuracy 0." in run_stage_in(prepared, "evaluate", check=True).stdout
