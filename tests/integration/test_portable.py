"""`train.portable` restarts a stage that computes with torch, so that it uses AVX2 kernels."""

import json
from pathlib import Path

import pytest

from tests.helpers import ROOT, command_of, edit_params, run


@pytest.mark.skipif("avx2" not in Path("/proc/cpuinfo").read_text(), reason="this processor has no AVX2")
def test_portable_training_computes_with_avx2_in_float32(prepared: Path) -> None:
    """`make verify-portable` runs all stages."""
    edit_params(prepared, {"train.portable": True})
    run(command_of("train"), prepared, PYTHONPATH=str(ROOT))
    fingerprint = dict(json.loads((prepared / "metrics/train.json").read_text())["fingerprint"])
    assert (fingerprint["device"], fingerprint["precision"]) == ("cpu AVX2", "float32")
