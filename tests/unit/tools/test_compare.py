"""The comparison of two runs."""

import pandas as pd
import pytest

from src.runtime.errors import PipelineError
from tools.compare import Run, check_gate, compare, format_report


def run_of(name: str, predicted: str, actual: str = "0011223344") -> Run:
    """Return a run that predicts these digits, one per test image."""
    table = pd.DataFrame({"actual": list(actual), "predicted": list(predicted)})
    return Run(name, {"train.seed": 0, "train.epochs": len(name)}, table)


def test_compare_counts_images_and_lists_the_flipped_ones() -> None:
    result = compare(run_of("a", "0011223349"), run_of("bb", "0091223344"))
    counts = [result[key] for key in ("both_right", "only_first", "only_second", "both_wrong")]
    assert counts == [8, 1, 1, 0]
    assert result["parameters"] == {"train.epochs": (1, 2)}
    assert result["flipped"] == [
        {"index": 2, "actual": "1", "first": "1", "second": "9"},
        {"index": 9, "actual": "4", "first": "9", "second": "4"},
    ]
    assert result["p_value"] == 1
    assert [round(run["accuracy"], 2) for run in result["accuracy"]] == [0.9, 0.9]


def test_report_shows_counts_verdict_and_flipped_images() -> None:
    report = format_report(compare(run_of("a", "0011223349"), run_of("bb", "0091223344")))
    assert "train.epochs  1  2" in report
    assert "8 test images right in both, 0 in neither\n1 right only in a, 1 right only in bb\n" in report
    assert "p-value 1: no significant difference." in report
    assert "     9      4     9      4" in report


def test_report_of_equal_runs_has_no_differences() -> None:
    report = format_report(compare(run_of("a", "0011223344"), run_of("b", "0011223344")))
    assert "Parameters\nno difference" in report
    assert "0 images flipped" in report


@pytest.mark.parametrize(
    ("lost", "won", "expected"), [(0, 5, "same"), (0, 6, "better"), (6, 0, "worse"), (3, 12, "better")]
)
def test_verdict_needs_a_p_value_below_0_05(lost: int, won: int, expected: str) -> None:
    """Five to nothing has p = 0.0625, six to nothing 0.031."""
    a = run_of("a", "0" * lost + "1" * won, "0" * (lost + won))
    b = run_of("b", "1" * lost + "0" * won, "0" * (lost + won))
    assert compare(a, b)["verdict"] == expected


def test_compare_refuses_different_test_images() -> None:
    with pytest.raises(PipelineError, match=r"error: a and b were evaluated on different test images \(10 and 4,"):
        compare(run_of("a", "0011223344"), run_of("b", "0011", "0011"))


def test_gate_fails_if_the_second_run_is_worse_or_below_the_floor() -> None:
    good, bad = run_of("good", "0" * 10, "0" * 10), run_of("bad", "0" * 4 + "1" * 6, "0" * 10)
    check_gate(compare(bad, good), floor=1.0)
    check_gate(compare(bad, bad), floor=0.4)
    with pytest.raises(PipelineError, match=r"quality gate failed: bad has accuracy 0\.4000 \(p = 0\.031\)"):
        check_gate(compare(good, bad), floor=0)
    with pytest.raises(PipelineError, match=r"expected not significantly worse than bad, and at least 0\.5"):
        check_gate(compare(bad, bad), floor=0.5)
