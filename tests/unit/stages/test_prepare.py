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
    assert splits[1].files == ("cat/8.png", "dog/7.png")
    assert splits[1].sizes.tolist() == [[40, 20], [40, 20]]
    assert sorted(path.name for path in (tmp_path / "prepared").iterdir()) == [
        "test.safetensors",
        "train.safetensors",
        "validation.safetensors",
    ]


def test_folder_is_prepared_with_the_size_channels_and_fit_of_the_parameters(tiny: Path) -> None:
    write_folder(tiny / "data/sources/folder", 10)
    changes = {"dataset": "folder", "image_size": 32, "channels": 3, "fit": "crop", "validation": 2}
    edit_params(tiny, {f"prepare.{key}": value for key, value in changes.items()} | {"model.name": "resnet18"})
    edit_params(tiny, {"train.normalize": "auto"})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny)
        main(load_params(tiny / "params.yaml"), tiny / "data/sources/folder", RAW, PREPARED)
    train = load_split(tiny / PREPARED, "train")
    assert train.images.shape == (15, 32, 32, 3)
    grays = {file: np.unique(image).tolist() for file, image in zip(train.files, train.images, strict=True)}
    assert grays["dog/3.png"] == [103]


def test_broken_images_are_listed_and_no_split_is_written(tmp_path: Path, folder_params: Params) -> None:
    write_folder(tmp_path / "images", 10)
    (tmp_path / "images/cat/empty.png").write_bytes(b"")
    (tmp_path / "images/dog/notes.txt").write_bytes(b"seen on Tuesday")
    with pytest.raises(PipelineError, match=r"2 of 22 files(.|\n)*cat/empty.png: cannot(.|\n)*dog/notes.txt: cannot"):
        main(folder_params, tmp_path / "images", tmp_path / "raw", tmp_path / "prepared")
    assert not list((tmp_path / "prepared").iterdir())


def test_folder_with_one_image_per_class_cannot_be_split(tmp_path: Path, folder_params: Params) -> None:
    write_folder(tmp_path / "images", 1)
    with pytest.raises(PipelineError, match=r"prepare.test holds out 1 of 2 images(.|\n)*-S prepare.test=0.2"):
        main(folder_params, tmp_path / "images", tmp_path / "raw", tmp_path / "prepared")
    assert not (tmp_path / "prepared").exists()


def test_full_disk_is_named_and_leaves_no_partial_file(tiny: Path, small_disk: Path) -> None:
    (tiny / PREPARED).symlink_to(small_disk)
    assert is_error(run_stage_in(tiny, "prepare"), "No space left on device", "train.safetensors", "df -h")
    assert not list(small_disk.iterdir())


def test_full_disk_is_an_error_while_a_folder_is_read(tmp_path: Path, folder_params: Params, small_disk: Path) -> None:
    write_folder(tmp_path / "images", 10)
    prepare = folder_params.prepare.model_copy(update={"image_size": 112})
    with pytest.raises(OSError, match="No space left on device"):
        main(
            folder_params.model_copy(update={"prepare": prepare}),
            tmp_path / "images",
            tmp_path,
            small_disk / "prepared",
        )
    assert not list((small_disk / "prepared").iterdir())


def test_read_only_folder_is_named(tiny: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    (tiny / PREPARED).symlink_to(small_disk)
    done = run_stage_in(tiny, "prepare")
    assert is_error(done, "cannot be read or written", "Read-only file system", "train.safetensors")


def test_prepared_images_match_the_raw_files(tiny: Path) -> None:
    run_stage_in(tiny, "prepare", check=True)
    raw = np.frombuffer(tiny_idx()["t10k-images-idx3-ubyte"], np.uint8, offset=16).reshape(-1, 28, 28)
    assert (load_split(tiny / PREPARED, "test").images == raw).all()
