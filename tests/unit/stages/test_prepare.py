"""The prepare stage on tiny data: its splits, and what it says if something is wrong."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from src.data.dataset import SPLITS, load_split
from stages.prepare import main
from tests.helpers import is_error, run_stage_in, tiny_idx

SOURCE, RAW, PREPARED = Path("data/sources/mnist"), Path("data/raw/mnist"), Path("data/prepared")


def test_prepare_writes_training_and_test_set(tiny: Path) -> None:
    sizes = {"train": 330, "test": 110}
    lines = [f"{split}: {size} images of 10 classes" for split, size in sizes.items()]
    assert run_stage_in(tiny, "prepare", check=True).stdout.splitlines() == lines
    raw = np.frombuffer(tiny_idx()["t10k-images-idx3-ubyte"], np.uint8, offset=16).reshape(-1, 28, 28)
    assert (load_split(tiny / PREPARED, "test").images == raw).all()


def test_experiment_in_a_copy_reads_raw_files_of_the_main_checkout(
    tiny: Path, params: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tiny / ".dvc/tmp/exps/tmp123"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(tiny))
    main(params.prepare, tiny / SOURCE, RAW, PREPARED)
    assert len(load_split(copy / PREPARED, "train")) == 330
    assert not (copy / "data/raw").exists()
    assert (tiny / ".dvc/tmp/raw.lock").exists()


def prepare_folder(params: SimpleNamespace, folder: Path, prepared: Path) -> None:
    """Write ten images per class, and prepare them in color, with 112 pixels per side."""
    for gray in range(20):
        path = folder / ("dog" if gray > 9 else "cat") / f"{gray}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (40, 20), gray).save(path)
    changes = {"dataset": "folder", "image_size": 112, "channels": 3, "fit": "crop", "test": 0.2}
    main(params.prepare.model_copy(update=changes), folder, RAW, prepared)


def test_folder_of_images_is_split(tmp_path: Path, params: SimpleNamespace) -> None:
    prepare_folder(params, tmp_path / "images", tmp_path / "prepared")
    splits = [load_split(tmp_path / "prepared", name) for name in SPLITS]
    assert [split.counts().tolist() for split in splits] == [[8, 8], [2, 2]]
    assert splits[0].images.shape == (16, 112, 112, 3)
    assert [f"{np.unique(image)[0]}.png" for image in splits[1].images] == [Path(x).name for x in splits[1].files]
    assert len(list((tmp_path / "prepared").iterdir())) == 2


def test_full_disk_is_named_and_leaves_no_partial_file(tiny: Path, small_disk: Path) -> None:
    (tiny / PREPARED).symlink_to(small_disk)
    assert is_error(run_stage_in(tiny, "prepare"), "No space left on device", "train.safetensors", "df -h")
    assert not list(small_disk.iterdir())


def test_full_disk_is_an_error_while_a_folder_is_read(
    tmp_path: Path, params: SimpleNamespace, small_disk: Path
) -> None:
    with pytest.raises(OSError, match="No space left on device"):
        prepare_folder(params, tmp_path / "images", small_disk / "prepared")
    assert not list((small_disk / "prepared").iterdir())
