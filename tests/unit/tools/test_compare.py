"""The comparison of two runs."""

import pandas as pd
import pytest

from src.runtime.errors import PipelineError
from tools.compare import Comparison, check_gate, format_report, mcnemar


def predictions(predicted: str, actual: str = "0011223344") -> pd.DataFrame:
    """Return these predicted digits, one per test image."""
    confidence = [round(0.9 - 0.01 * index, 2) for index in range(len(predicted))]
    return pd.DataFrame({"actual": list(actual), "predicted": list(predicted), "confidence": confidence})


def compare_zeros(first: str, second: str) -> Comparison:
    """Compare the runs "a" and "b" on images of zeros."""
    return Comparison(["a", "b"], predictions(first, "0" * len(first)), predictions(second, "0" * len(second)))


def test_compare_counts_images_and_lists_the_flipped_ones() -> None:
    result = Comparison(["a", "bb"], predictions("0011223349"), predictions("0091223344"))
    assert (result.lost, result.won, result.p_value) == (1, 1, 1)
    assert result.flipped.to_dict("index") == {
        2: {"actual": "1", "first": "1", "second": "9", "confidence": 0.88},
        9: {"actual": "4", "first": "9", "second": "4", "confidence": 0.81},
    }
    assert list(result.correct.mean()) == [0.9, 0.9]


def test_flipped_images_are_sorted_by_the_confidence_of_the_wrong_prediction() -> None:
    first, second = predictions("0000", "0000"), predictions("1110", "0000")
    flipped = Comparison(["a", "b"], first, second.assign(confidence=[0.5, 0.9, 1e-05, 1.0])).flipped
    assert list(flipped["confidence"].items()) == [(1, 0.9), (0, 0.5), (2, 1e-05)]


def test_at_most_12_images_of_each_kind_are_shown() -> None:
    flipped = compare_zeros("0" * 20 + "1" * 20, "1" * 20 + "0" * 20).flipped
    assert list(flipped.index) == [*range(12), *range(20, 32)]


def test_report_is_markdown_with_tables_of_text() -> None:
    result = Comparison(["a", "b"], predictions("01", "00").replace("1", "1e3|x"), predictions("00", "00"))
    report = format_report(result, pd.DataFrame({"model.pretrained": [True, False]}, ["old", "new"], dtype=object).T)
    lines = [
        " ".join(line.split())
        for line in report.splitlines()
        if line.startswith(("#", "| ", "- ")) and "---" not in line
    ]
    assert lines == [
        "### Parameters of a and b",
        "| | old | new |",
        "| model.pretrained | True | False |",
        "### Test accuracy with its 95 % interval",
        "| | accuracy | low | high |",
        "| a | 0.5 | 0.0945 | 0.9055 |",
        "| b | 1.0 | 0.3424 | 1.0 |",
        "- 0 test images right only in a, 1 right only in b",
        "- McNemar's exact p-value 1: the difference is not significant",
        "- This compares two models. To compare recipes, train several seeds of each: "
        "`python -m tools.sweep RECIPE --seeds 5`",
        "### Flipped images: at most 12 that b gets wrong, and 12 that it gets right",
        "| | actual | a | b | confidence |",
        r"| 1 | 0 | 1e3\|x | 0 | 0.89 |",
    ]


@pytest.mark.parametrize(
    ("lost", "won", "p"),
    [(5, 5, 1), (0, 5, 0.0625), (6, 0, 0.03125), (2, 8, 0.109375), (9_900, 10_100, 0.15938343598473)],
)
def test_mcnemar_is_exact(lost: int, won: int, p: float) -> None:
    """Twice the tail of a fair coin: 2 / 2^5, 2 / 2^6, 2 (1 + 10 + 45) / 2^10, and one with large numbers."""
    assert mcnemar(lost, won) == pytest.approx(p, abs=1e-14)


def test_compare_refuses_different_test_images() -> None:
    with pytest.raises(PipelineError, match=r"different test images \(10 and 4\)\nhint: dvc params diff 'a' 'b' "):
        Comparison(["a", "b"], predictions("0011223344"), predictions("0011", "0011"))


def test_gate_fails_if_the_second_run_is_worse_or_below_the_floor() -> None:
    """Five to nothing has p = 0.0625, six to nothing 0.031."""
    check_gate(compare_zeros("111111", "000000"), floor=1.0)
    check_gate(compare_zeros("00000", "11111"), floor=0)
    with pytest.raises(PipelineError, match=r"quality gate failed: b has accuracy 0\.0000 \(p = 0\.031\)"):
        check_gate(compare_zeros("000000", "111111"), floor=0)
    with pytest.raises(PipelineError, match=r"expected not significantly worse than a, and at least 0\.6"):
        check_gate(compare_zeros("0011", "0011"), floor=0.6)


def test_images_of_a_group_count_once() -> None:
    """Eight images of one group say no more than one image."""
    first, second = predictions("11111111" + "00", "0" * 10), predictions("0" * 10, "0" * 10)
    assert Comparison(["a", "b"], first, second).p_value < 0.01
    grouped = Comparison(["a", "b"], first.assign(group=[0] * 8 + [1, 2]), second)
    assert grouped.p_value == 1
    assert "- Sign-flip test of groups: p-value 1: the difference is not significant" in format_report(
        grouped, pd.DataFrame()
    )
    several = Comparison(["a", "b"], first.assign(group=range(10)), second).p_value
    assert several == pytest.approx(mcnemar(0, 8), abs=0.005)
