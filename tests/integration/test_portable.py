"""`train.portable` restarts every stage that computes with torch with AVX2 kernels."""

import json
from pathlib import Path

import pytest

from tests.helpers import ROOT, command_of, edit_params, run


@pytest.mark.skipif("avx2" not in Path("/proc/cpuinfo").read_text(), reason="this processor has no AVX2")
def test_portable_stages_compute_with_avx2_in_float32(prepared: Path) -> None:
    edit_params(prepared, {"train.portable": True})
    for stage in ("inspect", "train", "evaluate"):
        run(command_of(stage), prepared, PYTHONPATH=str(ROOT))
    fingerprint = json.loads((prepared / "metrics/train.json").read_text())["fingerprint"]
    assert (fingerprint["device"], fingerprint["precision"]) == ("cpu AVX2", "float32")
