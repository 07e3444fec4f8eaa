"""The comparison of two runs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from src.data.dataset import save_dataset
from src.runtime.errors import PipelineError
from tests.helpers import random_dataset
from tools.compare import TEST_SET, check_gate, compare, draw_flipped, format_report, mcnemar


def predictions(predicted: str, actual: str = "0011223344") -> pd.DataFrame:
    """Return these predicted digits, one per test image."""
    confidence = [f"{0.9 - 0.01 * index:.2f}" for index in range(len(predicted))]
    return pd.DataFrame({"actual": list(actual), "predicted": list(predicted), "confidence": confidence})


def compare_zeros(first: str, second: str) -> dict[str, Any]:
    """Compare the runs "a" and "b" on images of zeros."""
    return compare(["a", "b"], predictions(first, "0" * len(first)), predictions(second, "0" * len(second)))


def test_compare_counts_images_and_lists_the_flipped_ones() -> None:
    result = compare(["a", "bb"], predictions("0011223349"), predictions("0091223344"))
    counts = [result[key] for key in ("both_right", "only_first", "only_second", "both_wrong")]
    assert counts == [8, 1, 1, 0]
    assert result["flipped"].to_dict("index") == {
        2: {"actual": "1", "first": "1", "second": "9", "confidence": "0.88"},
        9: {"actual": "4", "first": "9", "second": "4", "confidence": "0.81"},
    }
    assert result["p_value"] == 1
    assert list(result["accuracy"]["accuracy"]) == [0.9, 0.9]


def test_flipped_images_are_sorted_by_the_confidence_of_the_wrong_prediction() -> None:
    first, second = predictions("0000", "0000"), predictions("1110", "0000")
    flipped = compare(["a", "b"], first, second.assign(confidence=["0.5", "0.9", "1e-05", "1.0"]))["flipped"]
    assert list(flipped["confidence"].items()) == [(1, "0.9"), (0, "0.5"), (2, "1e-05")]


def test_at_most_24_flipped_images_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One half are images that the second run gets wrong, the other half images that it gets right."""
    drawn: list[Any] = []
    monkeypatch.setattr("tools.compare.draw_image_grid", lambda *arguments, **_: drawn.extend(arguments))
    monkeypatch.chdir(tmp_path)
    save_dataset(TEST_SET, replace(random_dataset(40), labels=np.zeros(40, np.uint8)))
    result = compare_zeros("0" * 20 + "1" * 20, "1" * 20 + "0" * 20)
    draw_flipped(result, predictions("0" * 40, "0" * 40))
    assert drawn[2] == ["0: 0 → 1"] * 12 + ["0: 1 → 0"] * 12


def test_report_shows_parameters_counts_verdict_and_flipped_images() -> None:
    result = compare(["a", "bb"], predictions("0011223349"), predictions("0091223344"))
    report = format_report({**result, "parameters": {"train.epochs": [1, 2], "train.new": [None, True]}})
    assert "first: a, second: bb\n" in report
    assert "train.epochs     1      2\ntrain.new     None   True" in report
    assert "- 8 test images right in both, 0 in neither\n- 1 right only in a, 1 right only in bb\n" in report
    assert "p-value 1: no significant difference\n" in report
    assert "\n2      1     1      9       0.88\n9      4     9      4       0.81" in report


def test_markdown_report_has_headings_and_tables_of_text() -> None:
    result = compare(["a", "b"], predictions("01", "00").replace("1", "1e3|x"), predictions("00", "00"))
    report = format_report({**result, "parameters": {"model.pretrained": [True, False]}}, markdown=True)
    lines = [" ".join(line.split()) for line in report.splitlines() if line.startswith(("#", "| "))]
    assert lines == [
        "### Parameters",
        "| | first | second |",
        "| model.pretrained | True | False |",
        "### Test accuracy with its 95 % interval",
        "| | accuracy | low | high |",
        "| first | 0.5 | 0.0945 | 0.9055 |",
        "| second | 1.0 | 0.3424 | 1.0 |",
        "### Flipped images: 1",
        "| | actual | first | second | confidence |",
        r"| 1 | 0 | 1e3\|x | 0 | 0.89 |",
    ]


@pytest.mark.parametrize(
    ("lost", "won", "p"),
    [(5, 5, 1), (0, 5, 0.0625), (6, 0, 0.03125), (2, 8, 0.109375), (9_900, 10_100, 0.15938343598473)],
)
def test_mcnemar_is_exact(lost: int, won: int, p: float) -> None:
    """Twice the tail of a fair coin: 2 / 2^5, 2 / 2^6, 2 (1 + 10 + 45) / 2^10, and one that takes 40 s in integers."""
    assert mcnemar(lost, won) == pytest.approx(p, abs=1e-14)


@pytest.mark.parametrize(
    ("first", "second", "verdict"),
    [("11111", "00000", "same"), ("111111", "000000", "better"), ("000000", "111111", "worse")],
)
def test_verdict_needs_a_p_value_below_0_05(first: str, second: str, verdict: str) -> None:
    """Five to nothing has p = 0.0625, six to nothing 0.031."""
    assert compare_zeros(first, second)["verdict"] == verdict


def test_compare_refuses_different_test_images() -> None:
    with pytest.raises(PipelineError, match=r"(?s)different test images \(10 and 4,.*hint: dvc params diff 'a' 'b' "):
        compare(["a", "b"], predictions("0011223344"), predictions("0011", "0011"))


def test_gate_fails_if_the_second_run_is_worse_or_below_the_floor() -> None:
    check_gate(compare_zeros("111111", "000000"), floor=1.0)
    with pytest.raises(PipelineError, match=r"quality gate failed: b has accuracy 0\.0000 \(p = 0\.031\)"):
        check_gate(compare_zeros("000000", "111111"), floor=0)
    with pytest.raises(PipelineError, match=r"expected not significantly worse than a, and at least 0\.6"):
        check_gate(compare_zeros("0011", "0011"), floor=0.6)
