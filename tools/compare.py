"""Compare two revisions, experiments or the workspace: parameters, accuracy, images that only one gets right.

python -m tools.compare HEAD~1 HEAD
python -m tools.compare HEAD workspace --gate --floor 0.993    exit with 1 if B is significantly worse or below 99.3 %
python -m tools.compare origin/main workspace --markdown       the report in Markdown, for a pull request
"""

import argparse
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dvc.api
import numpy as np
import pandas as pd
from dvc.exceptions import DvcException
from dvc.repo import Repo

from src.data.dataset import load_dataset
from src.evaluation.metrics import wilson_interval
from src.evaluation.predictions import read_predictions
from src.reporting.drawing import draw_image_grid
from src.reporting.plots import SHORT_NAME
from src.runtime.cli import exit_on_error
from src.runtime.errors import PipelineError

PARAMS, PREDICTIONS, TEST_SET = "params.yaml", "metrics/predictions.csv", Path("data/prepared/test.safetensors")
FIGURE = Path("dvc_plots/flipped.png")
SIGNIFICANCE = 0.05
MAX_LISTED, MAX_DRAWN = 20, 24  # flipped images


def load_predictions(name: str) -> pd.DataFrame:
    """Return the predictions of a run, one row per test image.

    Args:
        name: a git revision, an experiment, or "workspace" for the working tree.

    Raises:
        PipelineError: there are none.
    """
    try:
        file = io.StringIO(dvc.api.read(PREDICTIONS, rev=None if name == "workspace" else name))
        return read_predictions(file).drop(columns="index")
    except (DvcException, OSError, ValueError) as error:
        raise PipelineError(
            f"`{name}` is not a revision, an experiment or `workspace` with {PREDICTIONS}:\n{error}",
            "git log --oneline -- metrics; dvc exp list   # lists them",
        ) from None


def diff_params(first: str, second: str) -> dict[str, list[Any]]:
    """Return the two values of each parameter that differs between two runs, by dotted key."""
    with Repo() as repo:
        changes = repo.params.diff(first, second).get("diff", {}).get(PARAMS, {})
    return {key: [change["old"], change["new"]] for key, change in sorted(changes.items())}


def compare(runs: Sequence[str], first: pd.DataFrame, second: pd.DataFrame) -> dict[str, Any]:
    """Return the differences between the predictions of two runs on the same test images, as numbers and tables.

    The verdict is whether the second run is significantly "better" or "worse" than the first, or the "same". The
    flipped images are those that only one run classifies correctly. Those that the second run gets wrong come first.
    In both groups, the highest confidence in a wrong class comes first.

    Args:
        runs: their names.
        first: what `load_predictions` returns for the first run.
        second: the same for the second run.

    Raises:
        PipelineError: the test images differ.
    """
    images = first.rename(columns={"predicted": "first"}).drop(columns="confidence").assign(second=second["predicted"])
    actual = images["actual"]
    same = ["actual", "file"]
    if not first.filter(same).equals(second.filter(same)):
        raise PipelineError(
            f"{' and '.join(runs)} were evaluated on different test images "
            f"({len(first):,} and {len(second):,}, see {PREDICTIONS})",
            f"dvc params diff '{runs[0]}' '{runs[1]}'   # shows whether the section prepare differs",
        )
    correct = images[["first", "second"]].eq(actual, axis=0)
    lost, won = correct["first"] & ~correct["second"], correct["second"] & ~correct["first"]
    images["confidence"] = second["confidence"].where(lost, first["confidence"])  # of the wrong prediction
    by_confidence: Any = {"by": "confidence", "key": pd.to_numeric, "ascending": False, "kind": "stable"}
    p_value = mcnemar(int(lost.sum()), int(won.sum()))
    better_or_worse = "better" if won.sum() > lost.sum() else "worse"
    low, high = wilson_interval(correct.sum(), len(images))
    return {
        "runs": list(runs),
        "accuracy": pd.DataFrame({"accuracy": correct.mean(), "low": low, "high": high}),
        "both_right": int(correct.all(axis=1).sum()),
        "only_first": int(lost.sum()),
        "only_second": int(won.sum()),
        "both_wrong": int((~correct).all(axis=1).sum()),
        "flipped": pd.concat([images[part].sort_values(**by_confidence) for part in (lost, won)]),
        "p_value": p_value,
        "verdict": better_or_worse if p_value < SIGNIFICANCE else "same",
    }


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test that two models are equally accurate.

    Under this hypothesis, each image that only one of the two models classifies correctly is a fair coin toss.

    Source: McNemar, Note on the Sampling Error of the Difference between Correlated Proportions, 1947.

    Args:
        only_first: the number of images that only the first model classifies correctly.
        only_second: the number of images that only the second model classifies correctly.
    """
    count, heads = only_first + only_second, min(only_first, only_second)
    # C(count, heads - 1) / C(count, heads), and so on down to 0 heads
    ratios = np.arange(heads, 0, -1) / np.arange(count - heads + 1, count + 1)
    tail = math.comb(count, heads) / 2**count * (1 + np.cumprod(ratios).sum())
    return float(min(1, 2 * tail))


def format_report(result: dict[str, Any], markdown: bool = False) -> str:
    """Return the comparison as text or as Markdown."""
    heading = "### " if markdown else ""

    def show(table: pd.DataFrame) -> str:
        if not markdown:
            return str(table.to_string())
        text = table.map(lambda value: str(value).replace("|", "\\|"))
        return str(text.to_markdown(disable_numparse=True))  # class names stay text, even 007

    (first, second), flipped = result["runs"], result["flipped"]
    changed = pd.DataFrame(result["parameters"], ["first", "second"], dtype=object).T
    listing = f"\n\nImages that {second} gets wrong come first. At most {MAX_LISTED} are listed.\n\n"
    listing = listing + show(flipped.head(MAX_LISTED)) if len(flipped) else ""
    verdict = "no significant difference" if result["verdict"] == "same" else f"{second} is {result['verdict']}"
    return f"""first: {first}, second: {second}

{heading}Parameters

{show(changed) if len(changed) else "no difference"}

{heading}Test accuracy with its 95 % interval

{show(result["accuracy"].round(4))}

- {result["both_right"]:,} test images right in both, {result["both_wrong"]:,} in neither
- {result["only_first"]:,} right only in {first}, {result["only_second"]:,} right only in {second}
- McNemar's exact p-value {result["p_value"]:.2g}: {verdict}
- This compares two models. To compare recipes, train several seeds of each: `python -m tools.sweep RECIPE --seeds 5`

{heading}Flipped images: {len(flipped)}{listing}"""


def draw_flipped(result: dict[str, Any], predictions: pd.DataFrame) -> str:
    """Draw the flipped images with the highest confidence in a wrong class, and return a sentence that says where.

    Args:
        result: what `compare` returns.
        predictions: what `load_predictions` returns, to check that the working tree has the same test set.
    """
    test_set = load_dataset(TEST_SET) if TEST_SET.exists() else None
    expected = [list(predictions.get("file", [])), list(predictions["actual"])]
    if not test_set or [list(test_set.files), [test_set.classes[label] for label in test_set.labels]] != expected:
        return f"To draw them, prepare their test set: dvc repro prepare   # writes {TEST_SET}"
    flipped = result["flipped"]
    flipped = flipped.groupby(flipped["actual"] == flipped["second"]).head(MAX_DRAWN // 2)
    gap = " " if max(map(len, test_set.classes)) <= SHORT_NAME else "\n"
    captions = [f"{row.actual}:{gap}{row.first}{gap}→ {row.second}" for row in flipped.itertuples()]
    counts = f"{result['only_first']} lost, {result['only_second']} won"
    title = f"{result['runs'][1]}: {counts}. The most confident {len(flipped)} (actual: first → second)"
    draw_image_grid(FIGURE, test_set.images[flipped.index], captions, title, columns=8)
    return f"Drawn in {FIGURE}"


def check_gate(result: dict[str, Any], floor: float) -> None:
    """Raise PipelineError if the second run is significantly worse than the first, or its accuracy is below `floor`."""
    (first, second), accuracy = result["runs"], result["accuracy"].loc["second", "accuracy"]
    if result["verdict"] == "worse" or accuracy < floor:
        raise PipelineError(
            f"quality gate failed: {second} has accuracy {accuracy:.4f} (p = {result['p_value']:.2g}),\n"
            f"expected not significantly worse than {first}, and at least {floor}",
            f"python -m tools.compare '{first}' '{second}'   # lists the images",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs=2, metavar=("A", "B"), help="a git revision, an experiment, or workspace")
    parser.add_argument("--gate", action="store_true", help="exit with status 1 if B is significantly worse")
    parser.add_argument(
        "--floor",
        type=float,
        default=0,
        metavar="ACCURACY",
        help="like --gate, and also exit with status 1 if B is below ACCURACY",
    )
    style = parser.add_mutually_exclusive_group()
    style.add_argument("--json", action="store_true", help="print JSON")
    style.add_argument("--markdown", action="store_true", help="print Markdown, for a pull request")
    options = parser.parse_args()
    with exit_on_error():
        first, second = map(load_predictions, options.runs)
        result = {"parameters": diff_params(*options.runs), **compare(options.runs, first, second)}
        if options.json:
            print(json.dumps(result, indent=2, default=lambda table: table.to_dict("index")))
        else:
            print(format_report(result, options.markdown))
            if len(result["flipped"]) and not options.markdown:
                print(draw_flipped(result, first))
        if options.gate or options.floor:
            check_gate(result, options.floor)


if __name__ == "__main__":
    main()
