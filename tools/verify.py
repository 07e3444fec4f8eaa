"""Run the pipeline in clean clones and hold every output against each other and against what is committed.

python -m tools.verify             two clones, the whole pipeline, and the committed dvc.lock
python -m tools.verify --quick     two clones, a tenth of an epoch
python -m tools.verify --portable  one clone, a short portable run, and the committed tools/portable.md5
"""

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from src.params import read_value, set_values
from src.runtime.cli import plain_errors
from src.runtime.errors import PipelineError
from src.sources.download import read_source
from src.sources.idx import read_idx, write_idx

ROOT = Path(__file__).parents[1]
PROGRAMS = Path(sys.executable).parent
PORTABLE = Path("tools/portable.md5")
IMAGES = {"train": 300, "t10k": 100}  # the first ones of MNIST, for the portable run
SETTINGS = {  # of the portable run: five steps, of which three at 20 x 20 pixels
    "prepare.validation": 50,
    "train.portable": True,
    "train.epochs": 1.0,
    "train.batch_size": 50,
    "train.low_resolution": 0.5,
}

Outputs = dict[str, str]


def recorded_outputs(lock: str) -> Outputs:
    """The MD5 sum of every output that the text of a dvc.lock records."""
    stages = read_value(lock)["stages"]
    return {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}


def clone(folder: Path) -> Path:
    """The last commit in a new folder, without any cache; the raw files are lent, since each run verifies them."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    if (ROOT / "data/raw").is_dir():
        shutil.copytree(ROOT / "data/raw", folder / "data/raw", dirs_exist_ok=True)
    return folder


def reproduce(folder: Path, settings: Mapping[str, object], programs: Path = PROGRAMS) -> Outputs:
    """Run the pipeline there, the folder `programs` before all others, and return its outputs.

    Raises PipelineError where it fails.
    """
    if settings:
        params = folder / "params.yaml"
        values = read_value(params.read_text())
        set_values(values, settings)
        params.write_text(json.dumps(values))  # which is YAML too
    command = ["dvc", "repro", "--no-run-cache"]
    path = os.pathsep.join([str(programs), str(PROGRAMS), os.environ["PATH"]])
    print(f"{folder.name} clone: {' '.join(command)}", flush=True)
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise PipelineError(
            "the pipeline fails in a clean clone",
            found=f"exit status {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}",
            expected="a run without errors",
            where="the last commit",
            run=f"git clone '{ROOT}' again && cd again && make repro",
        )
    return recorded_outputs((folder / "dvc.lock").read_text())


def compare(columns: dict[str, Outputs]) -> tuple[str, bool]:
    """A table of the first digits of each output's sum, and whether the columns are equal."""
    table = pd.DataFrame(columns)
    equal = table.eq(table.iloc[:, 0], axis=0).all(axis=1)
    shown = table.map(lambda digest: str(digest)[:12]).assign(same=equal.map({True: "yes", False: "NO"}))
    return f"{shown.to_string()}\n\n{equal.sum()} of {len(equal)} outputs are the same", bool(equal.all())


def differences(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """What differs between two fingerprints, a line each."""
    return [
        f"{key}: {here.get(key)} here, {there.get(key)} where the commit was made"
        for key in sorted({*here, *there})
        if here.get(key) != there.get(key)
    ]


def two_clones(scratch: Path, quick: bool) -> dict[str, Outputs]:
    """The outputs of two clones and, unless `quick`, those of the last commit, where its machine was like this one."""
    settings = {"train.epochs": 0.1} if quick else {}
    columns = {}
    for name in ("first", "second"):
        folder = clone(scratch / name)
        lock, there = (folder / "dvc.lock").read_text(), machine(folder)
        columns[name] = reproduce(folder, settings)
        other = differences(machine(folder), there)
    if other:
        print(*other, "Another type of machine may give other bytes: the clones are compared alone.\n", sep="\n")
    return columns if quick or other else {**columns, "committed": recorded_outputs(lock)}


def machine(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "metrics/train.json").read_text())["machine"])


def keep_first_images(folder: Path) -> None:
    """Cut the four files of MNIST in a clone to their first `IMAGES`, and write the sums that the pipeline expects."""
    source = folder / "data/sources/mnist"
    text = source.read_text()
    for name, digest in read_source(source).checksums.items():
        path = folder / "data/raw/mnist" / name
        axes = 3 if "images" in name else 1
        content = write_idx(read_idx(path.read_bytes(), axes)[: IMAGES[name.split("-")[0]]])
        path.write_bytes(content)
        text = text.replace(digest, hashlib.sha256(content).hexdigest())
    source.write_text(text)


def emulator(folder: Path, processor: str) -> Path:
    """A folder with a `python` that runs on an emulated processor, by a name that qemu-x86_64 knows."""
    from src.device import PORTABLE_ENVIRONMENT  # with torch, which takes its time

    settings = " ".join(f"{key}={value}" for key, value in PORTABLE_ENVIRONMENT.items())
    folder.mkdir()
    script = folder / "python"
    script.write_text(f"#!/bin/sh\n{settings} exec qemu-x86_64 -cpu {processor} '{sys.executable}' \"$@\"\n")
    script.chmod(0o755)
    return folder


def portable_clone(scratch: Path, processor: str | None, update: bool) -> dict[str, Outputs]:
    """The outputs of the short portable run, on this processor or on an emulated one, and the committed ones."""
    folder = clone(scratch / "portable")
    keep_first_images(folder)
    found = reproduce(folder, SETTINGS, emulator(scratch / "bin", processor) if processor else PROGRAMS)
    if update:
        (ROOT / PORTABLE).write_text("".join(f"{digest}  {path}\n" for path, digest in found.items()))
    lines = (line.split("  ") for line in (ROOT / PORTABLE).read_text().splitlines())
    return {processor or "this processor": found, "committed": {path: md5 for md5, path in lines}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--quick", action="store_true", help="a tenth of an epoch, in a minute")
    kind.add_argument("--portable", action="store_true", help="the short portable run alone")
    parser.add_argument("--processor", metavar="NAME", help="for --portable: emulate Haswell, Skylake-Client, EPYC ...")
    parser.add_argument("--update", action="store_true", help=f"for --portable: write {PORTABLE} anew")
    options = parser.parse_args()
    if (options.processor or options.update) and not options.portable:
        parser.error("--processor and --update belong to --portable")
    with plain_errors(), tempfile.TemporaryDirectory() as folder:
        if options.portable:
            columns = portable_clone(Path(folder), options.processor, options.update)
        else:
            columns = two_clones(Path(folder), options.quick)
    table, equal = compare(columns)
    print(table)
    sys.exit(not equal)


if __name__ == "__main__":
    main()
