"""Predictions of files and folders, as text and as CSV."""

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from src.models.inference import predict as predict_arrays
from src.models.model_file import load_model
from src.sources.folder import read_folder
from tests.helpers import DIGITS, save_random_model
from tools import predict
from tools.predict import classify, expand_folders


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of color images with random weights."""
    save_random_model(tmp_path / "color.safetensors", "squeezenet1_1", ("cat", "dog"), (3, 32, 32), "folder")
    return tmp_path / "color.safetensors"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of two classes with three color images each, of 40 x 30 pixels."""
    random = np.random.default_rng(0)
    for name in ("cat/1.png", "cat/2.jpg", "cat/3.webp", "dog/1.png", "dog/2.bmp", "dog/3.tiff"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8)).save(path)
    (tmp_path / "images/.hidden").mkdir()
    (tmp_path / "images/.hidden/4.png").write_text("x")
    return tmp_path / "images"


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable:
    """Run tools.predict with this model, and return what it prints."""

    def run(*arguments: object) -> str:
        monkeypatch.setattr("sys.argv", ["predict", *map(str, arguments)])
        monkeypatch.setattr(predict, "MODEL", model)
        predict.main()
        return capsys.readouterr().out

    return run


def test_folders_are_replaced_by_their_visible_files(images: Path) -> None:
    files = ["cat/1.png", "cat/2.jpg", "cat/3.webp", "dog/1.png", "dog/2.bmp", "dog/3.tiff"]
    assert expand_folders([str(images), "no.png"]) == [*(images / file for file in files), Path("no.png")]


@pytest.mark.parametrize(("classes", "shape"), [(("cat", "dog"), (3, 32, 32)), (DIGITS, (1, 28, 28))])
def test_files_are_classified_like_the_images_that_prepare_reads(
    classes: tuple[str, ...],
    shape: tuple[int, int, int],
    images: Path,
    params: SimpleNamespace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also in batches: of two images here."""
    monkeypatch.setattr("src.models.inference.EVALUATION_BATCH", 2)
    save_random_model(tmp_path / "a", "squeezenet1_1", classes, shape, "folder")
    values = {"fit": "crop", "test": 0.34, "channels": shape[0], "image_size": shape[1]}
    split = read_folder(images, params.prepare.model_copy(update=values), tmp_path)[0]
    classifier, metadata = load_model(tmp_path / "a")
    best = predict_arrays(classifier, np.array(split.images), torch.device("cpu")).exp().max(dim=1)
    threshold = best.values.mean().item()
    results, errors = classify(classifier, metadata, [images / file for file in split.files], threshold)
    assert list(results["confidence"]) == pytest.approx(best.values.tolist(), abs=1e-4)
    assert list(results["predicted"]) == [classes[index] for index in best.indices.tolist()]
    assert list(results["sure"]) == [value > threshold for value in best.values.tolist()]
    assert not errors


def test_csv_has_a_row_for_each_image_and_escapes_names_that_are_not_utf_8(images: Path, run: Callable) -> None:
    (images / "cat/1.png").rename(images / os.fsdecode(b"cat/\xe9.png"))
    header, *rows = csv.reader(io.StringIO(run(images / "cat", "--csv")))
    assert header == ["image", "predicted", "confidence", "sure"]
    assert [Path(row[0]).name for row in rows] == ["2.jpg", "3.webp", r"\udce9.png"]


def test_broken_files_are_errors_after_the_results_of_the_others(
    images: Path, run: Callable, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "broken.png").write_bytes(b"no")
    with pytest.raises(SystemExit, match="1"):
        run(images / "broken.png", images / "cat/1.png", images / "cat/1.png", images / "no.png")
    output, errors = capsys.readouterr()
    assert len(output.splitlines()) == 2
    assert "broken.png cannot be read: cannot identify image file" in errors
    assert "no.png cannot be read: [Errno 2] No such file" in errors
