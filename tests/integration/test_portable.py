"""With `compute.portable`, the pipeline gives the same bytes on every x86-64 processor with AVX2."""

from pathlib import Path

import pytest
import torch

from tests.helpers import ROOT, edit_params, new_clone, recorded_outputs, run


@pytest.mark.skipif(not torch.cpu.get_capabilities().get("avx2"), reason="this processor has no AVX2")
def test_portable_run_gives_the_committed_bytes(tmp_path: Path) -> None:
    """If a change of the code should change bytes, paste the lines that this test prints into tests/portable.md5."""
    clone = new_clone(tmp_path)
    edit_params(clone, {"compute.portable": True})
    run(["dvc", "repro"], clone)
    sums = "".join(f"{md5}  {path}\n" for path, md5 in recorded_outputs(clone).items())
    assert sums == (ROOT / "tests/portable.md5").read_text(), f"tests/portable.md5 should be:\n{sums}"
