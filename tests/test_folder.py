"""Other data by parameter: the real stages on a folder of images, and the mistakes that such folders have."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from src.data.dataset import IMAGE
from src.runtime.errors import PipelineError
from src.sources.folder import read_folder
from tests.conftest import is_block, new_clone, run

CLASSES = ["bird", "cat & dog", "émeu"]  # names as people have them


def write_images(folder: Path, each: int) -> None:
    """A bright square, a bar or a ring, of any size, grey or in colour, PNG or JPEG."""
    random = np.random.default_rng(0)
    for kind, name in enumerate(CLASSES):
        (folder / name).mkdir(parents=True)
        for number in range(each):
            height, width = random.integers(20, 90, 2)
            image = random.integers(0, 60, (height, width), np.uint8)
            image[height // 4 : 3 * height // 4, width // 4 : 3 * width // 4] += (190, 0, 190)[kind]
            image[height // 3 : 2 * height // 3] += (0, 190, 0)[kind]
            image[height // 3 : 2 * height // 3, width // 3 : 2 * width // 3] *= (1, 1, 0)[kind]
            picture = Image.fromarray(image)
            picture = picture.convert("RGB") if number % 2 else picture
            picture.save(folder / name / f"{number}.{'jpeg' if number % 3 else 'png'}")


def test_the_images_of_a_folder(tmp_path: Path) -> None:
    """In the order of their names, fitted into 28 x 28 with their shape kept, hidden files left out."""
    write_images(tmp_path, 4)
    Image.new("L", (10, 40), 255).save(tmp_path / CLASSES[0] / "0.png")
    (tmp_path / CLASSES[0] / ".DS_Store").write_bytes(b"")
    (tmp_path / ".ipynb_checkpoints").mkdir()
    data = read_folder(tmp_path)
    assert data.images.shape == (12, *IMAGE)
    assert data.classes == tuple(CLASSES)
    assert data.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.images[0].max(axis=0).nonzero()[0].tolist() == list(range(10, 17))  # 7 of 28 columns, in the middle


def test_a_picture_of_16_bits(tmp_path: Path) -> None:
    """It keeps its greys, as scanners write them, instead of being cut at 255 of 65,535."""
    write_images(tmp_path, 1)
    Image.fromarray(np.full((40, 40), 128 * 257, np.uint16)).save(tmp_path / CLASSES[0] / "0.png")
    assert np.unique(read_folder(tmp_path).images[0]).tolist() == [128]


@pytest.mark.parametrize("count", [256, 257])
def test_more_classes_than_a_byte_holds(tmp_path: Path, count: int) -> None:
    """The last of 257 classes keeps its own label."""
    for number in range(count):
        (tmp_path / f"{number:03}").mkdir()
        Image.new("L", (28, 28), number % 256).save(tmp_path / f"{number:03}" / "image.png")
    assert read_folder(tmp_path).labels.tolist() == list(range(count))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("bird/notes.txt", b"seen on Tuesday", "cannot identify image file"),
        ("bird/empty.png", b"", "cannot identify image file"),
        ("bird/cut.png", b"\x89PNG\r\n\x1a\n", "cannot identify image file"),
    ],
)
def test_a_file_that_is_no_image(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """The error names the file."""
    write_images(tmp_path, 1)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PipelineError, match=words) as error:
        read_folder(tmp_path)
    assert str(tmp_path / name) in str(error.value)


def test_no_classes(tmp_path: Path) -> None:
    """A missing folder, one without classes, and a class without images."""
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(PipelineError, match="0 folders"):
            read_folder(folder)
    write_images(tmp_path, 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(PipelineError, match="no image of it"):
        read_folder(tmp_path)


def test_the_pipeline_on_a_folder(tmp_path: Path) -> None:
    """From images of one's own to metrics and pictures with their names; the statistics to set are in the error."""
    folder = new_clone(tmp_path)
    write_images(folder / "data/sources/folder", 60)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["prepare"] |= {"dataset": "folder", "validation": 30, "test": 0.2}
    params["train"] |= {"epochs": 6.0, "batch_size": 16}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    done = run(["dvc", "repro"], folder, check=False)
    assert "-S train.normalize.mean=" in done.stderr
    command = done.stderr.split("run:")[1].split("#")[0].split()
    run(command, folder)
    figures = json.loads((folder / "metrics/evaluate.json").read_text())
    assert list(figures["per_class_accuracy"]) == CLASSES
    assert figures["accuracy"] > 0.9
    assert len(pd.read_csv(folder / "metrics/predictions.csv")) == 36
    assert "Tells which of 3 classes" in (folder / "data/model/model_card.md").read_text()
    done = run(["python", "-m", "tools.predict", *(f"data/sources/folder/{name}/1.jpeg" for name in CLASSES)], folder)
    answers = [line.split(": ")[1] for line in done.stdout.splitlines()]
    assert all(answer.startswith(name) for answer, name in zip(answers, CLASSES, strict=True)), answers
    Image.linear_gradient("L").save(folder / "data/sources/folder/bird/new.png")
    assert "changed" in run(["dvc", "status", "prepare"], folder).stdout
    for command in (
        ["dvc", "add", "data/sources/folder"],
        ["git", "add", "--all"],
        ["git", "commit", "--message", "mine"],
    ):
        run(command, folder)
    run(["dvc", "exp", "run", "--temp", "--name", "with-it", "-S", "train.epochs=1"], folder)
    assert "with-it" in run(["dvc", "exp", "list"], folder).stdout


def test_too_few(tmp_path: Path) -> None:
    """A class of one image cannot be on both sides of a split."""
    folder = new_clone(tmp_path)
    write_images(folder / "data/sources/folder", 1)
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["prepare"]["dataset"] = "folder"
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    command = yaml.safe_load((folder / "dvc.yaml").read_text())["stages"]["prepare"]["cmd"]
    done = run(command.replace("${prepare.dataset}", "folder").split(), folder, check=False)
    assert is_block(done, "the images held out do not fit the data", "dvc exp run -S prepare.test=0.2")
