"""The table and the words of `make verify`; its runs are in CI."""

from tests.conftest import ROOT
from tools.verify import PORTABLE, compare, differences, recorded_outputs


def test_every_difference_shows() -> None:
    """An output that differs, or that one of them lacks, is marked and counted."""
    first = {"a": "1" * 32, "b": "2" * 32}
    table, equal = compare({"first": first, "second": dict(first)})
    assert equal
    assert "2 of 2 outputs are the same" in table
    for second in ({"a": "1" * 32, "b": "3" * 32}, {"a": "1" * 32}):
        table, equal = compare({"first": first, "second": second})
        assert not equal
        assert "1 of 2 outputs are the same" in table
        assert next(line for line in table.splitlines() if line.startswith("b")).endswith("NO")


def test_another_machine_is_named() -> None:
    """What differs in the fingerprint, and nothing else."""
    here, there = {"threads": 2, "device": "cpu AVX2"}, {"threads": 2, "device": "cpu AVX512", "torch": "x"}
    assert differences(here, there) == [
        "device: cpu AVX2 here, cpu AVX512 where the commit was made",
        "torch: None here, x where the commit was made",
    ]
    assert differences(here, dict(here)) == []


def test_outputs_of_a_lock() -> None:
    """Every output of every stage by its path."""
    lock = "stages: {one: {outs: [{path: a, md5: x}]}, two: {outs: [{path: b, md5: y}, {path: c, md5: z}]}}"
    assert recorded_outputs(lock) == {"a": "x", "b": "y", "c": "z"}


def test_the_portable_sums_are_of_every_output() -> None:
    """An output that the pipeline gained is in the list, and one that it lost is not."""
    listed = {line.split("  ")[1] for line in (ROOT / PORTABLE).read_text().splitlines()}
    assert listed == set(recorded_outputs((ROOT / "dvc.lock").read_text()))
