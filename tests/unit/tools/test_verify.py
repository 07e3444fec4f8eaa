"""The table and the messages of tools.verify. `make verify` runs its clones."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from src.device import PORTABLE_ENVIRONMENT
from src.params import Params, load_yaml, override
from src.sources.download import read_spec
from src.sources.idx import read_idx
from tests.helpers import ROOT, run
from tools import verify
from tools.verify import (
    PORTABLE_SETTINGS,
    PORTABLE_SUMS,
    compare,
    keep_first_images,
    recorded_outputs,
    run_two_clones,
)


def test_compare_marks_and_counts_outputs_that_differ_or_are_missing(capsys: pytest.CaptureFixture[str]) -> None:
    first = {"a": "1" * 32, "b": "2" * 32}
    assert compare({"first": first, "second": dict(first)})
    assert "2 of 2 outputs are the same" in capsys.readouterr().out
    for second in ({"a": "1" * 32, "b": "3" * 32}, {"a": "1" * 32}):
        assert not compare({"first": first, "second": second})
        table = capsys.readouterr().out
        assert "1 of 2 outputs are the same" in table
        assert next(line for line in table.splitlines() if line.startswith("b")).endswith("NO")


def write_outputs(folder: Path, machine: dict[str, object], md5: str) -> None:
    """Write what the pipeline leaves in a clone: dvc.lock and metrics/train.json."""
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    (folder / "metrics/train.json").write_text(json.dumps({"fingerprint": machine}))
    (folder / "dvc.lock").write_text(f"stages: {{train: {{outs: [{{path: a, md5: {md5}}}]}}}}")


@pytest.mark.parametrize(
    ("here", "quick", "columns"),
    [
        ({"threads": 2, "device": "cpu AVX2"}, False, ["first", "second", "committed"]),
        ({"threads": 2, "device": "cpu AVX2"}, True, ["first", "second"]),
        ({"threads": 2, "device": "cpu AVX512", "torch": "x"}, False, ["first", "second"]),
    ],
)
def test_clones_are_compared_with_the_commit_only_if_fingerprints_match(
    here: dict[str, object],
    quick: bool,
    columns: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    committed = {"threads": 2, "device": "cpu AVX2"}

    def clone(folder: Path) -> Path:
        write_outputs(folder, committed, "old")
        return folder

    def reproduce(folder: Path, settings: dict[str, object]) -> dict[str, str]:
        assert settings == ({"train.epochs": 0.1} if quick else {})
        write_outputs(folder, here, "new")
        return recorded_outputs(folder)

    monkeypatch.setattr(verify, "clone", clone)
    monkeypatch.setattr(verify, "reproduce", reproduce)
    outputs = {"first": {"a": "new"}, "second": {"a": "new"}, "committed": {"a": "old"}}
    assert run_two_clones(tmp_path, quick) == {name: outputs[name] for name in columns}
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert (["device", "cpu", "AVX512", "cpu", "AVX2"] in lines) == (here != committed)
    assert (["torch", "x", "NaN"] in lines) == (here != committed)


def test_recorded_outputs_include_every_stage(tmp_path: Path) -> None:
    lock = "stages: {one: {outs: [{path: a, md5: x}]}, two: {outs: [{path: b, md5: y}, {path: c, md5: z}]}}"
    (tmp_path / "dvc.lock").write_text(lock)
    assert recorded_outputs(tmp_path) == {"a": "x", "b": "y", "c": "z"}


def test_portable_md5_lists_exactly_the_outputs_of_dvc_lock() -> None:
    listed = {line.split("  ")[1] for line in PORTABLE_SUMS.read_text().splitlines()}
    assert listed == set(recorded_outputs(ROOT))


def test_portable_settings_are_valid_parameters() -> None:
    values = load_yaml((ROOT / "params.yaml").read_text())
    override(values, PORTABLE_SETTINGS)
    assert Params.model_validate(values).train.portable


def test_keep_first_images_shortens_the_files_and_updates_their_sha256(tiny: Path) -> None:
    raw = tiny / "data/raw/mnist"
    before = read_idx((raw / "train-images-idx3-ubyte").read_bytes())
    keep_first_images(tiny)
    after = {path.name: path.read_bytes() for path in raw.iterdir()}
    assert np.array_equal(read_idx(after["train-images-idx3-ubyte"]), before[:300])
    assert {name: len(read_idx(content)) for name, content in after.items()} == {
        "train-images-idx3-ubyte": 300,
        "train-labels-idx1-ubyte": 300,
        "t10k-images-idx3-ubyte": 100,
        "t10k-labels-idx1-ubyte": 100,
    }
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in after.items()}
    assert read_spec(tiny / "data/sources/mnist").sha256 == sha256


def test_documented_emulator_runs_python_with_portable_kernels(tmp_path: Path) -> None:
    """Run the lines of docs/guarantees.md with a `qemu-x86_64` that prints its arguments and environment."""
    qemu = tmp_path / "qemu-x86_64"
    qemu.write_text('#!/bin/sh\necho "$@" && env\n')
    qemu.chmod(0o755)
    block = (ROOT / "docs/guarantees.md").read_text().split("```")[1]
    *setup, verify = block.removeprefix("console").strip().splitlines()
    assert verify == 'PATH="$PWD/.venv/emulator:$PATH" .venv/bin/python -m tools.verify --portable'
    script = "\n".join([*setup, ".venv/emulator/python -m stages.train"])
    arguments, *variables = run(["sh", "-euc", script], tmp_path, PATH=f"{tmp_path}:/usr/bin:/bin").stdout.splitlines()
    assert arguments == f"-cpu Haswell {tmp_path}/.venv/bin/python -m stages.train"
    assert {f"{name}={value}" for name, value in PORTABLE_ENVIRONMENT.items()} <= set(variables)
