"""Run the pipeline in clean clones, and compare all outputs with each other and with the committed ones.

python -m tools.verify             two clones, the whole pipeline, and the committed dvc.lock
python -m tools.verify --quick     two clones, a tenth of an epoch
python -m tools.verify --portable  one clone, a short portable run, and the committed tools/portable.md5
python -m tools.verify --update    the short portable run, whose MD5 sums replace tools/portable.md5
"""

import argparse
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from dvc.utils.serialize import modify_yaml

from src.params import load_yaml, override, read_recipe
from src.runtime.cli import exit_on_error
from src.runtime.errors import PipelineError
from src.sources.download import read_spec
from src.sources.idx import read_idx, write_idx

ROOT = Path(__file__).parents[1]
PORTABLE_SUMS = ROOT / "tools/portable.md5"
PORTABLE_IMAGES = {"train": 300, "t10k": 100}  # the portable run uses the first images of MNIST
PORTABLE_SETTINGS = read_recipe(ROOT / "tools/portable.txt")  # two epochs of five steps

Outputs = dict[str, str]  # path: MD5


def recorded_outputs(folder: Path) -> Outputs:
    """Return the MD5 of every output in the dvc.lock of a clone."""
    stages = load_yaml((folder / "dvc.lock").read_text())["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


def clone(folder: Path) -> Path:
    """Clone the last commit without DVC's cache. Copy the raw files, which the pipeline verifies."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    if (ROOT / "data/raw").is_dir():
        shutil.copytree(ROOT / "data/raw", folder / "data/raw", dirs_exist_ok=True)
    return folder


def reproduce(folder: Path, settings: Mapping[str, object]) -> Outputs:
    """Run the pipeline in a clone and return its outputs.

    The stages run with the first `python` on PATH, which may be one that emulates another processor.

    Args:
        folder: the clone.
        settings: values of params.yaml to change, by dotted key.

    Raises:
        PipelineError: the pipeline failed.
    """
    with modify_yaml(folder / "params.yaml") as values:
        override(values, settings)
    command = "dvc repro --no-run-cache"
    print(f"{folder.name} clone: {command}", flush=True)
    done = subprocess.run(command.split(), cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PipelineError(
            f"`{command}` exits with status {done.returncode} in a clean clone of the last commit:\n"
            + (done.stdout[-2000:] + done.stderr[-2000:]).rstrip(),
            f"git clone {shlex.quote(str(ROOT))} /tmp/clone && cd /tmp/clone && make repro",
        )
    return recorded_outputs(folder)


def compare(columns: Mapping[str, Outputs]) -> bool:
    """Print a table with the first digits of all MD5 sums, and return whether the columns are equal."""
    table = pd.DataFrame(columns)
    same = table.eq(table.iloc[:, 0], axis=0).all(axis=1)
    shown = table.map(lambda digest: str(digest)[:12]).assign(same=same.map({True: "yes", False: "NO"}))
    print(f"{shown.to_string()}\n\n{same.sum()} of {len(same)} outputs are the same")
    return bool(same.all())


def run_two_clones(scratch: Path, quick: bool) -> dict[str, Outputs]:
    """Return the outputs of two clones and, if `quick` is false and the fingerprints are equal, of the last commit."""
    settings = {"train.epochs": 0.1} if quick else {}
    first, second = clone(scratch / "first"), clone(scratch / "second")
    committed, fingerprint = recorded_outputs(first), read_fingerprint(first)
    columns = {folder.name: reproduce(folder, settings) for folder in (first, second)}
    if read_fingerprint(first) != fingerprint:
        print(pd.DataFrame({"here": read_fingerprint(first), "in the commit": fingerprint}).to_string())
        print("The fingerprints differ, so the bytes may, too. Only the clones are compared.\n")
    elif not quick:
        columns["committed"] = committed
    return columns


def read_fingerprint(folder: Path) -> dict[str, Any]:
    """Return the fingerprint of the training whose metrics are in a clone."""
    return dict(json.loads((folder / "metrics/train.json").read_text())["fingerprint"])


def keep_first_images(folder: Path) -> None:
    """Shorten MNIST's four files in a clone to `PORTABLE_IMAGES`, and update the SHA-256 that the pipeline expects."""
    spec = folder / "data/sources/mnist"
    text = spec.read_text()
    for name, digest in read_spec(spec).sha256.items():
        path = folder / "data/raw/mnist" / name
        content = write_idx(read_idx(path.read_bytes())[: PORTABLE_IMAGES[name.split("-")[0]]])
        path.write_bytes(content)
        text = text.replace(digest, hashlib.sha256(content).hexdigest())
    spec.write_text(text)


def run_portable_clone(scratch: Path, update: bool) -> dict[str, Outputs]:
    """Return the outputs of the short portable run, and the committed ones."""
    folder = clone(scratch / "portable")
    keep_first_images(folder)
    outputs = reproduce(folder, PORTABLE_SETTINGS)
    if update:
        PORTABLE_SUMS.write_text("".join(f"{digest}  {path}\n" for path, digest in outputs.items()))
    lines = (line.split("  ") for line in PORTABLE_SUMS.read_text().splitlines())
    return {"here": outputs, "committed": {path: digest for digest, path in lines}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true", help="train a tenth of an epoch: takes a minute")
    kind.add_argument("--portable", action="store_true", help="run only the short portable run")
    kind.add_argument("--update", action="store_true", help=f"like --portable, but rewrite {PORTABLE_SUMS.name}")
    options = parser.parse_args()
    with exit_on_error(), tempfile.TemporaryDirectory() as folder:
        if options.portable or options.update:
            columns = run_portable_clone(Path(folder), options.update)
        else:
            columns = run_two_clones(Path(folder), options.quick)
    sys.exit(not compare(columns))


if __name__ == "__main__":
    main()
