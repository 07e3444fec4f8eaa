"""Predictions of files and folders, for digits and for any other model."""

import csv
import io
import json
import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from src.models.inference import predict as predict_arrays
from src.models.model_file import ModelMetadata, load_model, save_model
from src.params import Normalize, Prepare
from src.registry import create_model
from src.sources.folder import read_folder
from tests.helpers import DIGITS
from tests.images import encode, printed
from tools import predict
from tools.predict import expand_folders, read_images, top_k


def test_top_k_returns_the_most_probable_classes_in_order() -> None:
    assert top_k("a.png", torch.tensor([0.04, 0.95, 0.01]), ("x", "y", "z"), k=2) == {
        "image": "a.png",
        "predicted": "y",
        "sure": True,
        "top": [{"class": "y", "probability": 0.95}, {"class": "x", "probability": 0.04}],
    }


def test_top_k_is_unsure_below_a_confidence_of_90_percent_and_returns_at_most_all_classes() -> None:
    result = top_k("a.png", torch.tensor([0.89, 0.11]), ("x", "y"), k=9)
    assert not result["sure"]
    assert len(result["top"]) == 2


def metadata(
    classes: tuple[str, ...] = ("cat", "dog"), shape: tuple[int, int, int] = (3, 32, 32), dataset: str = "folder"
) -> ModelMetadata:
    network = "tiny" if shape[0] == 1 else "squeezenet1_1"
    normalize = Normalize(mean=[0.5] * shape[0], std=[0.25] * shape[0])
    return ModelMetadata(
        network=network,
        classes=classes,
        input_shape=shape,
        dataset=dataset,
        fit="crop",
        normalize=normalize,
        test_time_augmentation=False,
        fingerprint={},
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model of color images with random weights."""
    about = metadata()
    torch.manual_seed(0)
    save_model(tmp_path / "model.safetensors", create_model(about.network, 2, about.input_shape), about)
    return tmp_path / "model.safetensors"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of two classes with three color images each, of 40 x 30 pixels."""
    random = np.random.default_rng(0)
    for name in ("cat/1.png", "cat/2.jpg", "cat/3.webp", "dog/1.png", "dog/2.bmp", "dog/3.tiff"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (30, 40, 3), np.uint8)).save(path)
    (tmp_path / "images/.hidden").write_text("x")
    return tmp_path / "images"


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[str, str]:
    monkeypatch.setattr("sys.argv", ["predict", *map(str, arguments)])
    predict.main()
    return capsys.readouterr()


def test_folders_are_replaced_by_their_visible_files(images: Path) -> None:
    assert [str(Path(name).relative_to(images)) for name in expand_folders([str(images / "dog"), str(images)])] == [
        *("dog/1.png", "dog/2.bmp", "dog/3.tiff"),
        *("cat/1.png", "cat/2.jpg", "cat/3.webp", "dog/1.png", "dog/2.bmp", "dog/3.tiff"),
    ]
    assert expand_folders(["-", "no.png"]) == ["-", "no.png"]


def test_file_that_is_not_an_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"seven")
    for about in (metadata(), metadata(DIGITS, (1, 28, 28), "mnist")):
        broken, missing = read_images([str(tmp_path / "image.png"), str(tmp_path / "no.png")], about)
        assert str(broken).startswith("cannot identify image file")
        assert "No such file or directory" in str(missing)


def test_digit_is_extracted_for_a_model_of_mnist(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(encode(printed("7", paper="white"), "PNG"))
    (digit,) = read_images([str(tmp_path / "image.png")], metadata(DIGITS, (1, 28, 28), "mnist"))
    assert digit[0, 0] == 0  # type: ignore[index]  # black background


@pytest.mark.parametrize(("classes", "shape"), [(("cat", "dog"), (3, 32, 32)), (DIGITS, (1, 28, 28))])
def test_files_are_read_as_the_stage_prepare_reads_them(
    classes: tuple[str, ...], shape: tuple[int, int, int], images: Path, params: Any, tmp_path: Path
) -> None:
    """Also if their classes are the digits."""
    values = {"dataset": "folder", "fit": "crop", "validation": 0, "test": 0.34}
    values |= {"channels": shape[0], "image_size": shape[1]}
    split = read_folder(images, Prepare(**{**params.prepare.model_dump(), **values}), tmp_path)[0]
    found = list(read_images([str(images / file) for file in split.files], metadata(classes, shape)))
    assert np.array_equal(np.stack(found), split.images)  # type: ignore[arg-type]


def test_predictions_equal_those_of_the_arrays(
    images: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in batches: of two images here."""
    monkeypatch.setattr(predict, "EVALUATION_BATCH", 2)
    output, log = run(monkeypatch, capsys, images, "--model", model, "--json", "--top", 2)
    results = json.loads(output)
    classifier, about = load_model(model)
    arrays = np.stack(list(read_images([result["image"] for result in results], about)))  # type: ignore[arg-type]
    expected = predict_arrays(classifier, arrays, torch.device("cpu")).exp()
    for result, row in zip(results, expected.tolist(), strict=True):
        assert {item["class"]: item["probability"] for item in result["top"]} == {
            name: pytest.approx(value, abs=1e-4) for name, value in zip(about.classes, row, strict=True)
        }
    assert log.endswith(" images/s\n")
    assert log.endswith(" images/s\n")


def test_csv_has_a_row_for_each_image(
    images: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output, _ = run(monkeypatch, capsys, images / "cat", "--model", model, "--csv", "--top", 2)
    header, *rows = csv.reader(io.StringIO(output))
    assert header == ["image", "sure", "class_1", "probability_1", "class_2", "probability_2"]
    assert [Path(row[0]).name for row in rows] == ["1.png", "2.jpg", "3.webp"]
    assert all({row[2], row[4]} == {"cat", "dog"} and float(row[3]) >= float(row[5]) for row in rows)


def test_same_file_twice_has_two_results_and_broken_files_do_not_stop_the_others(
    images: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "it's.png").write_bytes(b"no")
    names = [images / "cat/1.png", images / "it's.png", images / "cat/1.png", images / "it's.png"]
    monkeypatch.setattr("sys.argv", ["predict", *map(str, names), "--model", str(model)])
    with pytest.raises(SystemExit, match="1"):
        predict.main()
    output = capsys.readouterr()
    first, second = output.out.splitlines()
    assert first == second
    assert output.err.count("it's.png cannot be read: cannot identify image file") == 2
    assert output.err.count(f"hint: file {shlex.quote(str(names[1]))} ") == 2


def test_file_name_that_is_not_utf_8_is_printed_with_escapes(
    images: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (images / "cat/1.png").rename(images / os.fsdecode(b"cat/\xe9.png"))
    output, _ = run(monkeypatch, capsys, images / "cat", "--model", model, "--csv")
    assert output.count(r"cat/\udce9.png") == 1
    assert output.count("cat/2.jpg") == 1
