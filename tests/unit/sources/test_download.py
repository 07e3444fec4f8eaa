"""Files in data/raw, files of data/sources, and the package's pickle. Servers are in tests/integration."""

import gzip
import pickle
from pathlib import Path

import pytest

from src.runtime.errors import PipelineError
from src.sources.download import DatasetSpec, download, files_from_pickle, read_spec
from tests.helpers import DIGITS, ROOT, sha256_sums, tiny_idx

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
    ("name", "content", "problem"),
    [
        (IMAGES, FILES[IMAGES][:-1], f"the content has SHA-256 [0-9a-f]{{64}}, expected {SPEC.sha256[IMAGES]}"),
        (f"{IMAGES}.gz", gzip.compress(FILES[IMAGES][:-1]), "the content has SHA-256 "),
        (f"{IMAGES}.gz", gzip.compress(FILES[IMAGES])[:-9], "Compressed file ended before"),
        (f"{IMAGES}.gz", b"<html>", "Not a gzipped file"),
    ],
)
def test_damaged_file_in_raw_is_refused(tmp_path: Path, name: str, content: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PipelineError, match=rf"{name} is not the expected file: {problem}(.|\n)*hint: rm "):
        download(tmp_path, SPEC)


def test_files_from_pickle_never_executes_the_pickle() -> None:
    class Malicious:
        def __reduce__(self) -> tuple:
            return (exec, ("raise SystemExit('executed')",))

    with pytest.raises(ValueError, match="0 byte strings in the pickle, expected 6"):
        files_from_pickle(pickle.dumps(Malicious()))


def test_mnist_has_the_checksums_of_the_original_files() -> None:
    assert read_spec(ROOT / "data/sources/mnist").sha256 == {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    }
