"""Bad input and a hostile machine: each stage says what, where and what next, and writes nothing by halves."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.numpy import save_file

from src.audit import audit, violations
from src.data.dataset import Dataset
from src.data.tensor_file import load_tensors, save_tensors
from src.models.model_file import Description, load_model, save_model
from src.models.net import Net
from src.params import Normalize, Params
from src.runtime.errors import PipelineError
from src.runtime.files import write_bytes, write_csv, write_json
from src.sources.split import stratified_split
from tests.conftest import Stage, is_block

MODEL = "data/model/model.safetensors"


def set_param(folder: Path, name: str, value: object) -> None:
    params = yaml.safe_load((folder / "params.yaml").read_text())
    section, key = name.split(".")
    params[section][key] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


@pytest.mark.skipif(shutil.which("nvidia-smi") is not None, reason="this machine has a GPU")
def test_no_silent_fall_back_to_the_cpu(tiny: Path, stage: Stage) -> None:
    """`device: cuda` without a GPU is an error, and no history is left."""
    stage("prepare", check=True)
    set_param(tiny, "train.device", "cuda")
    assert is_block(stage("train"), "no cuda device", "train.device", "dvc exp run -S train.device=auto")
    assert not (tiny / "metrics").exists()


def test_too_large_a_validation_set(tiny: Path, stage: Stage) -> None:
    """More than the training images can give."""
    set_param(tiny, "prepare.validation", 330)
    assert is_block(stage("prepare"), "the images held out do not fit", "prepare.validation")
    assert not (tiny / "data/prepared").exists()


@pytest.fixture
def model(tiny: Path) -> Path:
    """A whole model that was never trained, where `evaluate` looks for it."""
    description = Description(
        network="net", classes=tuple("0123456789"), normalize=Normalize(mean=0.1, std=0.3), fingerprint={}
    )
    save_model(tiny / MODEL, Net(10), description)
    return tiny / MODEL


def test_missing_or_foreign_model(model: Path, stage: Stage) -> None:
    """No file, another program's, another network's, weights that are NaN, half a file: an error each."""
    whole, (weights, about) = model.read_bytes(), load_tensors(model)
    foreign = {"conv1.weight": np.zeros((3, 3), np.float32)}
    broken = {**weights, "fc2.bias": np.full(10, np.nan, np.float32)}
    for make, words in (
        (lambda: model.write_bytes(b"PK\x03\x04 a zip of torch.save"), "SafetensorError"),
        (lambda: model.write_bytes(whole[:-100]), "SafetensorError"),
        (lambda: save_file(weights, model), "tensors that another program wrote"),
        (lambda: save_tensors(model, foreign, about), r"Missing key\(s\) in state_dict"),
        (lambda: save_tensors(model, weights, {**about, "classes": 5, "normalize": None}), "2 validation errors"),
        (lambda: save_tensors(model, weights, {**about, "network": "tiny"}), "Unexpected key"),
        (lambda: save_tensors(model, broken, about), "NaN or infinite"),
        (lambda: model.unlink(), "no such file"),
    ):
        make()
        with pytest.raises(PipelineError, match=f"is not a model of this pipeline(.|\n)*{words}"):
            load_model(model)
    stage("prepare", check=True)
    assert is_block(stage("evaluate"), MODEL, "no such file", "dvc repro")
    assert not model.parents[2].joinpath("metrics").exists()


@pytest.mark.parametrize(("path", "reader"), [(MODEL, "evaluate"), ("data/prepared/train.safetensors", "inspect")])
def test_a_flipped_bit(tiny: Path, model: Path, stage: Stage, path: str, reader: str) -> None:
    """One bit of a weight or a pixel is noticed before the file is used."""
    stage("prepare", check=True)
    damaged = bytearray((tiny / path).read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (tiny / path).write_bytes(damaged)
    assert is_block(stage(reader), path, "content of SHA-256", "dvc repro --force --single-item")
    assert not (tiny / "metrics").exists()


def test_a_foreign_data_set(tiny: Path, stage: Stage) -> None:
    """A prepared file that is damaged is named by the stage that reads it."""
    stage("prepare", check=True)
    path = tiny / "data/prepared/train.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    assert is_block(stage("inspect"), "train.safetensors is not a prepared data set", "dvc repro --force")
    assert not (tiny / "metrics").exists()


def test_audit_ends_the_stage(tiny: Path, stage: Stage) -> None:
    """A normalisation that does not fit the data is a violated expectation; no report is written."""
    stage("prepare", check=True)
    params = yaml.safe_load((tiny / "params.yaml").read_text())
    params["train"]["normalize"]["mean"] = 0.9
    (tiny / "params.yaml").write_text(yaml.safe_dump(params))
    assert is_block(stage("inspect"), "mean of the pixels", "train.normalize")
    assert not (tiny / "metrics").exists()


def test_audit_finds_what_is_wrong(params: Params) -> None:
    """A blank image, a missing class, a copy in another split: each is reported."""
    random = np.random.default_rng(0)
    images, labels = random.integers(0, 256, (6, 28, 28), np.uint8), np.array([0, 1, 0, 1, 0, 1], np.uint8)
    images[0] = 0
    train = Dataset(images, labels, ("a", "b"))
    other = Dataset(images[[1, 2]], labels[[0, 2]], ("a", "b"))
    report = audit({"train": train, "validation": other, "test": other})
    assert report["train"]["blank"] == 1
    assert report["shared"] == {"train and validation": 2, "train and test": 2, "validation and test": 2}
    found = " ".join(violations(report, params.inspect, params.train.normalize, same_test_set=True))
    assert "1 blank images" in found
    assert "validation: no image of class b" in found
    assert "train and test share 2 exact copies" in found
    assert "validation and test share" not in found


def test_stratified_split_takes_shares() -> None:
    """Exactly as many as asked, each class in proportion, nothing twice, the same for the same seed."""
    labels = np.repeat(np.arange(3), [50, 30, 21])
    kept, held_out = stratified_split(labels, 10, seed=1)
    assert np.bincount(labels[held_out]).tolist() == [5, 3, 2]
    assert sorted([*kept, *held_out]) == list(range(101))
    assert np.array_equal(stratified_split(labels, 10, seed=1)[1], held_out)
    assert not np.array_equal(stratified_split(labels, 10, seed=2)[1], held_out)


@pytest.mark.parametrize(("sizes", "held_out"), [((1, 99), 60), ((50, 50), 100), ((50, 50), 101), ((1, 99), 2)])
def test_split_leaves_each_class_on_either_side(sizes: tuple[int, int], held_out: int) -> None:
    """A class that would have no training or no validation image is an error."""
    with pytest.raises(PipelineError, match="leave a class without one"):
        stratified_split(np.repeat([0, 1], sizes), held_out, seed=0)


def test_diverging_training(tiny: Path, stage: Stage) -> None:
    """A learning rate that makes the loss NaN ends training at once, and no model is written."""
    stage("prepare", check=True)
    set_param(tiny, "train.optimizer", "sgd")
    set_param(tiny, "train.learning_rate", 10)
    set_param(tiny, "train.batch_norm", value=False)
    assert is_block(stage("train"), "training diverged", "train.learning_rate=1")
    assert not (tiny / MODEL).exists()


@pytest.mark.skipif("avx2" not in Path("/proc/cpuinfo").read_text(), reason="this processor has no AVX2")
def test_portable(tiny: Path, stage: Stage) -> None:
    """`portable: true` leaves out what is newer than AVX2, in every stage that computes with torch."""
    set_param(tiny, "train.portable", value=True)
    for name in ("prepare", "inspect", "train", "evaluate"):
        stage(name, check=True)
    machine = json.loads((tiny / "metrics/train.json").read_text())["machine"]
    assert (machine["device"], machine["precision"]) == ("cpu AVX2", "float32")


def test_a_batch_of_one_image(tiny: Path, stage: Stage) -> None:
    """280 images in batches of 31 leave one, which has no spread to normalise by."""
    stage("prepare", check=True)
    set_param(tiny, "train.batch_size", 31)
    assert is_block(stage("train"), "280 images in batches of 31", "2 or more in every batch", "train.batch_norm=false")
    assert not (tiny / "metrics").exists()


def test_full_disk(tiny: Path, stage: Stage, small_disk: Path) -> None:
    """The stage says that the disk is full, and no half file stays."""
    (tiny / "data/prepared").symlink_to(small_disk)
    assert is_block(stage("prepare"), "No space left on device", "train.safetensors", "df -h")
    assert not list(small_disk.iterdir())


def test_full_disk_keeps_the_file_that_was_there(small_disk: Path) -> None:
    """A write that fails leaves the earlier content."""
    write_bytes(small_disk / "a", b"old")
    with pytest.raises(OSError, match="No space left"):
        write_bytes(small_disk / "a", bytes(2**20))
    assert (small_disk / "a").read_bytes() == b"old"
    assert len(list(small_disk.iterdir())) == 1


def test_read_only_folder(tiny: Path, stage: Stage, small_disk: Path) -> None:
    """The stage names the file that it could not write."""
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    (tiny / "data/prepared").symlink_to(small_disk)
    assert is_block(stage("prepare"), "cannot be read or written", "Read-only file system", "train.safetensors")


def test_json_and_csv_are_stable(tmp_path: Path) -> None:
    """Six significant digits, no NaN, a last newline."""
    write_json(tmp_path / "a.json", {"b": 1 / 3, "a": [2e-9 / 3, 1]})
    assert (tmp_path / "a.json").read_text() == '{\n  "b": 0.333333,\n  "a": [\n    6.66667e-10,\n    1\n  ]\n}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    write_csv(tmp_path / "a.csv", ["a", "b"], [[1, 2 / 3]])
    assert (tmp_path / "a.csv").read_text() == "a,b\n1,0.666667\n"
