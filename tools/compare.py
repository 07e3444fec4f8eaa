"""Compare two revisions, experiments or the workspace: parameters, accuracy and the test images that changed.

python -m tools.compare HEAD~1 HEAD
python -m tools.compare HEAD workspace --gate --floor 0.993    exit with 1 if B is significantly worse or below 99.3 %
"""

import argparse
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dvc.api
import numpy as np
import pandas as pd
from dvc.exceptions import DvcException
from dvc.utils.flatten import flatten

from src.data.dataset import load_dataset
from src.drawing import draw_image_grid
from src.metrics import mcnemar, wilson_interval
from src.runtime.cli import exit_on_error
from src.runtime.errors import PipelineError

PARAMS, PREDICTIONS, TEST_SET = "params.yaml", "metrics/predictions.csv", Path("data/prepared/test.safetensors")
FIGURE = Path("dvc_plots/flipped.png")
SIGNIFICANCE = 0.05
MAX_LISTED, MAX_DRAWN = 20, 80  # flipped images


@dataclass(frozen=True)
class Run:
    """A trained model.

    Attributes:
        name: a revision, an experiment or "workspace".
        params: values by dotted key.
        predictions: class names in the columns actual and predicted, a row per test image.
    """

    name: str
    params: dict[str, Any]
    predictions: pd.DataFrame


def load_run(name: str) -> Run:
    """Read parameters and predictions of a git revision or an experiment. "workspace" is the working tree.

    Raises:
        PipelineError: there are none.
    """
    revision = None if name == "workspace" else name
    try:
        params = flatten(dvc.api.params_show(PARAMS, rev=revision))
        file = io.StringIO(dvc.api.read(PREDICTIONS, rev=revision))
        # class names stay text, even 0 and NA
        return Run(name, params, pd.read_csv(file, usecols=["actual", "predicted"], dtype=str, keep_default_na=False))
    except (DvcException, OSError, ValueError) as error:
        raise PipelineError(
            f"`{name}` is not a revision, an experiment or `workspace` with {PARAMS} and {PREDICTIONS}:\n{error}",
            "git log --oneline -- metrics; dvc exp list   # lists them",
        ) from None


def compare(first: Run, second: Run) -> dict[str, Any]:
    """Return the differences between two runs on the same test images, as values for JSON.

    The verdict is whether the second run is significantly "better" or "worse" than the first, or the "same". The
    flipped images are those that only one run classifies correctly, first those that the second run gets wrong.

    Raises:
        PipelineError: the test images differ.
    """
    actual = first.predictions["actual"]
    if not actual.equals(second.predictions["actual"]):
        raise PipelineError(
            f"{first.name} and {second.name} were evaluated on different test images "
            f"({len(actual):,} and {len(second.predictions):,}, see {PREDICTIONS})",
            f"git diff '{first.name}' '{second.name}' -- dvc.lock",
        )
    params = {key: (first.params.get(key), second.params.get(key)) for key in sorted({*first.params, *second.params})}
    images = first.predictions.rename(columns={"predicted": "first"}).assign(second=second.predictions["predicted"])
    correct = np.stack([images["first"] == actual, images["second"] == actual])
    low, high = wilson_interval(correct.sum(axis=1), len(actual))
    lost, won = correct[0] & ~correct[1], correct[1] & ~correct[0]
    p_value = mcnemar(int(lost.sum()), int(won.sum()))
    better_or_worse = "better" if won.sum() > lost.sum() else "worse"
    return {
        "runs": [first.name, second.name],
        "parameters": {key: values for key, values in params.items() if values[0] != values[1]},
        "accuracy": pd.DataFrame({"accuracy": correct.mean(axis=1), "low": low, "high": high}).to_dict("records"),
        "both_right": int(correct.all(axis=0).sum()),
        "only_first": int(lost.sum()),
        "only_second": int(won.sum()),
        "both_wrong": int((~correct).all(axis=0).sum()),
        "flipped": pd.concat([images[lost], images[won]]).reset_index().to_dict("records"),
        "p_value": p_value,
        "verdict": better_or_worse if p_value < SIGNIFICANCE else "same",
    }


def format_report(result: dict[str, Any]) -> str:
    """Return the comparison as text."""
    first, second = result["runs"]
    flipped = pd.DataFrame(result["flipped"])
    changed = pd.DataFrame(result["parameters"], [first, second], dtype=object).T
    verdict = "no significant difference" if result["verdict"] == "same" else f"{second} is {result['verdict']}"
    return f"""Parameters
{changed.to_string() if len(changed) else "no difference"}

Test accuracy with its 95 % interval
{pd.DataFrame(result["accuracy"], [first, second]).round(4).to_string()}

{result["both_right"]:,} test images right in both, {result["both_wrong"]:,} in neither
{result["only_first"]:,} right only in {first}, {result["only_second"]:,} right only in {second}
McNemar's exact p-value {result["p_value"]:.2g}: {verdict}.
This compares two models. To compare recipes, train several seeds of each: python -m tools.sweep RECIPE --seeds 5

{len(flipped)} images flipped; up to {MAX_LISTED} are listed, first those that {second} gets wrong
{flipped.head(MAX_LISTED).to_string(index=False)}"""


def draw_flipped(result: dict[str, Any], actual: list[str]) -> str:
    """Draw the flipped images, and return a sentence that says where.

    Args:
        result: what `compare` returns.
        actual: the class of each test image, to check that the working tree has the same test set.
    """
    test_set = load_dataset(TEST_SET) if TEST_SET.exists() else None
    if not test_set or [test_set.classes[label] for label in test_set.labels] != actual:
        return f"To draw them, prepare their test set: dvc repro prepare   # writes {TEST_SET}"
    flipped = result["flipped"][:MAX_DRAWN]
    captions = [f"{row['actual']}: {row['first']} → {row['second']}" for row in flipped]
    title = f"{result['runs'][1]}: {result['only_first']} images lost, {result['only_second']} won"
    draw_image_grid(FIGURE, test_set.images[[row["index"] for row in flipped]], captions, title, columns=8)
    return f"Drawn in {FIGURE} as actual: first → second"


def check_gate(result: dict[str, Any], floor: float) -> None:
    """Raise PipelineError if the second run is significantly worse than the first, or its accuracy is below `floor`."""
    (first, second), accuracy = result["runs"], result["accuracy"][1]["accuracy"]
    if result["verdict"] == "worse" or accuracy < floor:
        raise PipelineError(
            f"quality gate failed: {second} has accuracy {accuracy:.4f} (p = {result['p_value']:.2g}),\n"
            f"expected not significantly worse than {first}, and at least {floor}",
            f"python -m tools.compare '{first}' '{second}'   # lists the images",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", metavar="A", help="a git revision, an experiment, or workspace")
    parser.add_argument("second", metavar="B", help="the same")
    parser.add_argument("--gate", action="store_true", help="exit with status 1 if B is significantly worse")
    parser.add_argument(
        "--floor", type=float, metavar="ACCURACY", help="--gate, and exit with status 1 if B is below this accuracy"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    with exit_on_error():
        first, second = load_run(options.first), load_run(options.second)
        result = compare(first, second)
        print(json.dumps(result, indent=2) if options.json else format_report(result))
        if result["flipped"] and not options.json:
            print(draw_flipped(result, list(first.predictions["actual"])))
        if options.gate or options.floor:
            check_gate(result, options.floor or 0)


if __name__ == "__main__":
    main()
