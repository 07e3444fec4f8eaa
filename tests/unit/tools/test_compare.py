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
from tools.compare import TEST_SET, check_gate, compare, draw_flipped, format_report


def predictions(predicted: str, actual: str = "0011223344") -> pd.DataFrame:
    """Return these predicted digits, one per test image."""
    confidence = [f"{0.9 - 0.01 * index:.2f}" for index in range(len(predicted))]
    return pd.DataFrame({"actual": list(actual), "predicted": list(predicted), "confidence": confidence})


def compare_zeros(first: int, second: int, count: int = 10) -> dict[str, Any]:
    """Compare the runs "a" and "b" on images of zeros. They recognize the first `first` and `second` images."""
    runs = [predictions("0" * right + "1" * (count - right), "0" * count) for right in (first, second)]
    return compare(["a", "b"], *runs)


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
    assert flipped["confidence"].to_dict() == {1: "0.9", 0: "0.5", 2: "1e-05"}
    assert flipped.index.tolist() == [1, 0, 2]


def test_at_most_24_flipped_images_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One half are images that the second run gets wrong, the other half images that it gets right."""
    captions: list[str] = []
    monkeypatch.setattr("tools.compare.draw_image_grid", lambda *arguments, **_: captions.extend(arguments[2]))
    monkeypatch.chdir(tmp_path)
    save_dataset(TEST_SET, replace(random_dataset(40), labels=np.zeros(40, np.uint8)))
    runs = [predictions(text, "0" * 40) for text in ("0" * 20 + "1" * 20, "1" * 20 + "0" * 20)]
    draw_flipped(compare(["a", "b"], *runs), runs[0])
    assert captions == ["0: 0 → 1"] * 12 + ["0: 1 → 0"] * 12


def test_report_shows_parameters_counts_verdict_and_flipped_images() -> None:
    result = compare(["a", "bb"], predictions("0011223349"), predictions("0091223344"))
    report = format_report({**result, "parameters": {"train.epochs": [1, 2], "train.new": [None, True]}})
    assert "first: a, second: bb\n" in report
    assert "train.epochs     1      2\ntrain.new     None   True" in report
    assert "- 8 test images right in both, 0 in neither\n- 1 right only in a, 1 right only in bb\n" in report
    assert "p-value 1: no significant difference\n" in report
    assert "\n2      1     1      9       0.88\n9      4     9      4       0.81" in report


def test_report_of_equal_runs_has_no_differences() -> None:
    report = format_report({**compare_zeros(9, 9), "parameters": {}})
    assert "Parameters\n\nno difference" in report
    assert report.endswith("\nFlipped images: 0")


def test_markdown_report_has_headings_and_tables() -> None:
    result = compare(["a", "bb"], predictions("0011223349"), predictions("0091223344"))
    lines = format_report({**result, "parameters": {"train.epochs": [1, 2]}}, markdown=True).splitlines()
    assert [line for line in lines if line.startswith("#")] == [
        "### Parameters",
        "### Test accuracy with its 95 % interval",
        "### Flipped images: 2",
    ]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    assert [row for row in cells if not row[0].startswith(":") and not row[0].startswith("-")] == [
        ["", "first", "second"],
        ["train.epochs", "1", "2"],
        ["", "accuracy", "low", "high"],
        ["first", "0.9", "0.5958", "0.9821"],
        ["second", "0.9", "0.5958", "0.9821"],
        ["", "actual", "first", "second", "confidence"],
        ["2", "1", "1", "9", "0.88"],
        ["9", "4", "9", "4", "0.81"],
    ]


def test_class_names_stay_text_in_markdown() -> None:
    result = compare(["a", "b"], predictions("01", "00").replace("1", "1e3|x"), predictions("00", "00"))
    report = format_report({**result, "parameters": {"train.pretrained": [True, False]}}, markdown=True)
    assert "| True " in report
    assert "1e3\\|x" in report


@pytest.mark.parametrize(
    ("lost", "won", "expected"), [(0, 5, "same"), (0, 6, "better"), (6, 0, "worse"), (3, 12, "better")]
)
def test_verdict_needs_a_p_value_below_0_05(lost: int, won: int, expected: str) -> None:
    """Five to nothing has p = 0.0625, six to nothing 0.031."""
    first = predictions("0" * lost + "1" * won, "0" * (lost + won))
    second = predictions("1" * lost + "0" * won, "0" * (lost + won))
    assert compare(["a", "b"], first, second)["verdict"] == expected


def test_compare_refuses_different_test_images() -> None:
    with pytest.raises(PipelineError, match=r"(?s)different test images \(10 and 4,.*hint: dvc params diff 'a' 'b' "):
        compare(["a", "b"], predictions("0011223344"), predictions("0011", "0011"))


def test_gate_fails_if_the_second_run_is_worse_or_below_the_floor() -> None:
    check_gate(compare_zeros(4, 10), floor=1.0)
    check_gate(compare_zeros(4, 4), floor=0.4)
    with pytest.raises(PipelineError, match=r"quality gate failed: b has accuracy 0\.4000 \(p = 0\.031\)"):
        check_gate(compare_zeros(10, 4), floor=0)
    with pytest.raises(PipelineError, match=r"expected not significantly worse than a, and at least 0\.5"):
        check_gate(compare_zeros(4, 4), floor=0.5)
