"""Files in data/raw, files of data/sources, and the package's pickle. Servers are in tests/integration."""

import gzip
import hashlib
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from src.runtime.errors import PipelineError
from src.sources.download import DatasetSpec, decode, download, files_from_pickle, read_spec
from src.sources.idx import read_idx, write_idx
from tests.helpers import DIGITS, ROOT, is_error, run_stage_in, sha256_sums, tiny_idx

FILES = tiny_idx()
SPEC = DatasetSpec(classes=list(DIGITS), torchvision="MNIST", package="", sha256=sha256_sums(FILES))
IMAGES = "train-images-idx3-ubyte"


def test_files_in_raw_are_read_plain_or_gzipped(tmp_path: Path) -> None:
    for name, content in FILES.items():
        if "labels" in name:
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (tmp_path / name).write_bytes(content)
    assert download(tmp_path, SPEC) == FILES


@pytest.mark.parametrize(
    "content",
    [
        FILES[IMAGES][:-1],
        FILES[IMAGES][:7],
        FILES[IMAGES][:500] + b"x" + FILES[IMAGES][501:],
        FILES["t10k-images-idx3-ubyte"],
        FILES["train-labels-idx1-ubyte"],
        FILES[IMAGES][:4] + b"\x80" + FILES[IMAGES][5:],  # claims 2,147,483,978 images
        FILES[IMAGES][:2] + b"\x0d" + FILES[IMAGES][3:],  # claims float32
        b"<html>",
    ],
)
def test_raw_file_with_another_sha256_is_refused(tiny: Path, content: bytes) -> None:
    (tiny / "data/raw/mnist" / IMAGES).write_bytes(content)
    done = run_stage_in(tiny, "prepare")
    found, expected = hashlib.sha256(content).hexdigest(), SPEC.sha256[IMAGES]
    assert is_error(
        done, f"data/raw/mnist/{IMAGES} is not the expected file: the content has SHA-256 {found}, expected {expected}"
    )
    assert not (tiny / "data/prepared").exists()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<html>", "Not a gzipped file"),
        (gzip.compress(FILES[IMAGES])[:-9], "ended before"),
        (gzip.compress(FILES[IMAGES])[:500] + bytes(500), "Error -3 while decompressing data"),
        (gzip.compress(FILES["t10k-images-idx3-ubyte"]), "SHA-256"),
    ],
)
def test_damaged_gzip_file_in_raw_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    (tmp_path / f"{IMAGES}.gz").write_bytes(content)
    with pytest.raises(PipelineError, match=rf"{IMAGES}.gz is not the expected file: .*{problem}(.|\n)*hint: rm "):
        download(tmp_path, SPEC)


def test_every_mutation_of_a_raw_file_is_refused(tmp_path: Path, count: Callable[[str], None]) -> None:
    chosen = random.Random(0)
    for name, content in ((name, content[:4000]) for name, content in FILES.items()):
        spec = SPEC.model_copy(update={"sha256": {name: hashlib.sha256(content).hexdigest()}})
        for number in range(100):
            end = 16 if number % 2 else len(content)
            position, length = chosen.randrange(end), chosen.choice([1, 2, 4, 8, 64])
            before, after = content[:position], content[position + length :]
            flipped = bytes([content[position] ^ 1 << chosen.randrange(8)])
            mutated = chosen.choice(
                [
                    before + flipped + content[position + 1 :],
                    before + after,
                    before,
                    before + chosen.randbytes(length) + content[position:],
                ]
            )
            (tmp_path / name).write_bytes(mutated)
            with pytest.raises(PipelineError, match=f"{name} is not the expected file"):
                download(tmp_path, spec)
    count("400 of 400 mutated IDX files are refused")


def test_decode_returns_images_labels_and_classes() -> None:
    dataset = decode(FILES, "t10k", DIGITS)
    assert (dataset.images.shape, dataset.labels[:4].tolist(), dataset.classes) == ((110, 28, 28), [0, 1, 2, 3], DIGITS)


@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        (write_idx(np.full(330, 10, np.uint8)), "label 10 at index 0, expected 0 to 9"),
        (write_idx(np.zeros(329, np.uint8)), "329 labels for 330 images"),
        (b"<html>", "not an IDX file"),
    ],
)
def test_decode_refuses_labels_that_do_not_fit(labels: bytes, problem: str) -> None:
    with pytest.raises(PipelineError, match=problem):
        decode({**FILES, "train-labels-idx1-ubyte": labels}, "train", DIGITS)


def test_files_from_pickle_joins_train_and_validation() -> None:
    images = {name: read_idx(FILES[f"{name}-images-idx3-ubyte"]) for name in ("train", "t10k")}
    labels = {name: read_idx(FILES[f"{name}-labels-idx1-ubyte"]) for name in ("train", "t10k")}
    parts = [
        (images["train"][:290], labels["train"][:290]),
        (images["train"][290:], labels["train"][290:]),
        (images["t10k"], labels["t10k"]),
    ]
    pairs = tuple(((i.reshape(-1, 784) / 256).astype(np.float32), j.astype(np.int64)) for i, j in parts)
    assert files_from_pickle(pickle.dumps(pairs, protocol=4)) == FILES


def test_files_from_pickle_never_executes_the_pickle() -> None:
    class Malicious:
        def __reduce__(self) -> tuple:
            return (exec, ("raise SystemExit('executed')",))

    with pytest.raises(ValueError, match="0 byte strings in the pickle, expected 6"):
        files_from_pickle(pickle.dumps(Malicious()))


def test_read_spec_reads_yaml(tmp_path: Path) -> None:
    path = tmp_path / "spec"
    path.write_text(
        f'classes: [cat, dog]\ntorchvision: MNIST\npackage: ""\nsha256:\n  a: {"a" * 64}\n  b: {"b" * 64}\n'
    )
    assert read_spec(path).model_dump() == {
        "classes": ["cat", "dog"],
        "torchvision": "MNIST",
        "package": "",
        "sha256": {"a": "a" * 64, "b": "b" * 64},
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", "DatasetSpec"),
        ("classes: [", "while parsing"),
        ('classes: [a]\ntorchvision: ""\npackage: ""\nsha256: {a: 12}\n', "sha256.a"),
        ('classes: [a]\ntorchvision: ""\npackage: ""\nsha256: {a: 0x}\n', "sha256.a"),
        ('classes: [a]\ntorchvision: ""\npackage: ""\nsha256: {}\nmirror: b\n', "mirror"),
    ],
)
def test_damaged_spec_is_an_error_with_the_command_that_restores_it(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "spec").write_text(text)
    with pytest.raises(PipelineError) as error:
        read_spec(tmp_path / "spec")
    assert str(error.value).startswith(f"error: {tmp_path}/spec is damaged: ")
    assert message in str(error.value)
    assert f"\nhint: git checkout {tmp_path}/spec " in str(error.value)


def test_mnist_has_the_checksums_of_the_original_files() -> None:
    assert read_spec(ROOT / "data/sources/mnist").sha256 == {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
