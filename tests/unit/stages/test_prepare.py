"""The prepare stage on tiny data: its splits, and what it says if something is wrong."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.data.dataset import load_split
from src.params import Params, load_params
from src.runtime.errors import PipelineError
from stages.prepare import main
from tests.helpers import edit_params, is_error, run_stage_in, tiny_idx

SOURCE, RAW, PREPARED = Path("data/sources/mnist"), Path("data/raw/mnist"), Path("data/prepared")


def test_prepare_writes_three_splits(tiny: Path) -> None:
    done = run_stage_in(tiny, "prepare", check=True)
    assert done.stdout.splitlines() == [
        "train: 280 images of 10 classes",
        "validation: 50 images of 10 classes",
        "test: 110 images of 10 classes",
    ]
    assert load_split(tiny / PREPARED, "validation").counts().tolist() == [5] * 10


def test_without_validation_images_the_test_set_is_the_validation_set(tiny: Path) -> None:
    edit_params(tiny, {"prepare.validation": 0})
    run_stage_in(tiny, "prepare", check=True)
    files = {name: (tiny / PREPARED / f"{name}.safetensors").read_bytes() for name in ("validation", "test")}
    assert files["validation"] == files["test"]
    assert len(load_split(tiny / PREPARED, "train")) == 330


def test_experiment_in_a_copy_reads_raw_files_of_the_main_checkout(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tiny / ".dvc/tmp/exps/tmp123"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(tiny))
    main(load_params(tiny / "params.yaml"), tiny / SOURCE, RAW, PREPARED)
    assert len(load_split(copy / PREPARED, "train")) == 280
    assert not (copy / "data/raw").exists()
    assert (tiny / ".dvc/tmp/raw.lock").exists()


def test_validation_set_that_is_too_large_is_refused(tiny: Path) -> None:
    edit_params(tiny, {"prepare.validation": 330})
    done = run_stage_in(tiny, "prepare")
    assert is_error(done, "prepare.validation holds out 330 of 330 images", "dvc exp run -S prepare.validation=33")
    assert not (tiny / PREPARED).exists()


@pytest.fixture
def folder_params(params: Params) -> Params:
    """Images from a folder: one fifth for testing, two for validation."""
    prepare = params.prepare.model_copy(update={"dataset": "folder", "test": 0.2, "validation": 2})
    return params.model_copy(update={"prepare": prepare})


def write_folder(folder: Path, images: int) -> None:
    for number, name in enumerate(("cat", "dog")):
        (folder / name).mkdir(parents=True)
        for index in range(images):
            Image.new("L", (40, 20), 100 * number + index).save(folder / name / f"{index}.png")


def test_folder_of_images_is_split_in_three(tmp_path: Path, folder_params: Params) -> None:
    write_folder(tmp_path / "images", 10)
    main(folder_params, tmp_path / "images", tmp_path / "raw", tmp_path / "prepared")
    splits = [load_split(tmp_path / "prepared", name) for name in ("train", "validation", "test")]
    assert [split.counts().tolist() for split in splits] == [[7, 7], [1, 1], [2, 2]]
    assert splits[0].classes == ("cat", "dog")


def test_folder_with_one_image_per_class_cannot_be_split(tmp_path: Path, folder_params: Params) -> None:
    write_folder(tmp_path / "images", 1)
    with pytest.raises(PipelineError, match=r"prepare.test holds out 1 of 2 images(.|\n)*-S prepare.test=0.2"):
        main(folder_params, tmp_path / "images", tmp_path / "raw", tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()


def test_full_disk_is_named_and_leaves_no_partial_file(tiny: Path, small_disk: Path) -> None:
    (tiny / PREPARED).symlink_to(small_disk)
    assert is_error(run_stage_in(tiny, "prepare"), "No space left on device", "train.safetensors", "df -h")
    assert not list(small_disk.iterdir())


def test_read_only_folder_is_named(tiny: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    (tiny / PREPARED).symlink_to(small_disk)
    done = run_stage_in(tiny, "prepare")
    assert is_error(done, "cannot be read or written", "Read-only file system", "train.safetensors")


def test_prepared_images_match_the_raw_files(tiny: Path) -> None:
    run_stage_in(tiny, "prepare", check=True)
    raw = np.frombuffer(tiny_idx()["t10k-images-idx3-ubyte"], np.uint8, offset=16).reshape(-1, 28, 28)
    assert (load_split(tiny / PREPARED, "test").images == raw).all()
