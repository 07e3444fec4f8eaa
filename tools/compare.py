"""Compare two revisions, experiments or the workspace: what differs, and is the difference more than chance?

python -m tools.compare HEAD~1 HEAD
python -m tools.compare HEAD workspace --gate --floor 0.993    exit status 1 where the second is no good
"""

import argparse
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException
from dvc.utils.flatten import flatten
from ruamel.yaml.error import YAMLError

from src.data.dataset import load_dataset
from src.drawing import draw_grid
from src.metrics import mcnemar, wilson_interval
from src.params import read_value
from src.runtime.cli import plain_errors
from src.runtime.errors import PipelineError

PARAMS, PREDICTIONS, TEST = "params.yaml", "metrics/predictions.csv", Path("data/prepared/test.safetensors")
PICTURE = Path("dvc_plots/flipped.png")
SIGNIFICANT = 0.05
LISTED, DRAWN = 20, 80  # flipped images


@dataclass(frozen=True)
class Run:
    """One trained model: `predictions` has the columns index, actual and predicted."""

    name: str
    params: dict[str, Any]
    predictions: pd.DataFrame


def load_run(name: str) -> Run:
    """The run that a git revision, an experiment or, by the name "workspace", the working tree holds.

    Raises PipelineError where there is none.
    """
    try:
        params, predictions = (
            dvc.api.read(path, rev=None if name == "workspace" else name) for path in (PARAMS, PREDICTIONS)
        )
        table = pd.read_csv(io.StringIO(predictions), dtype={"actual": str, "predicted": str}, keep_default_na=False)
        return Run(name, flatten(read_value(params)), table[["index", "actual", "predicted"]])
    except (DvcException, OSError, KeyError, ValueError, YAMLError) as error:
        raise PipelineError(
            f"`{name}` holds no run",
            found=error,
            expected=f"a git revision, an experiment or `workspace`, with {PARAMS} and {PREDICTIONS}",
            where=Path.cwd(),
            run="git log --oneline -- metrics; dvc exp list   # to see what there is",
        ) from None


def compare(first: Run, second: Run) -> dict[str, Any]:
    """What differs between two runs on the same test images, ready for JSON.

    Raises PipelineError where the test images are not the same.
    """
    a, b = first.predictions, second.predictions
    if not a["actual"].equals(b["actual"]):
        raise PipelineError(
            "the two runs were measured on different test images",
            found=f"{len(a):,} and {len(b):,} images, or other labels",
            expected="the same ones, in the same order",
            where=f"{PREDICTIONS} of {first.name} and {second.name}",
            run=f"git diff '{first.name}' '{second.name}' -- dvc.lock   # with experiments: their hashes",
        )
    right_a, right_b = ((table["actual"] == table["predicted"]).to_numpy() for table in (a, b))
    pairs = {key: (first.params.get(key), second.params.get(key)) for key in sorted({*first.params, *second.params})}
    intervals = [(right.mean(), *wilson_interval(right.sum(), len(right))) for right in (right_a, right_b)]
    flipped = a.assign(first=a["predicted"], second=b["predicted"])[right_a != right_b]
    lost, won = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    return {
        "runs": [first.name, second.name],
        "parameters": {key: pair for key, pair in pairs.items() if pair[0] != pair[1]},
        "accuracy": [{"accuracy": share, "low": low, "high": high} for share, low, high in intervals],
        "both_right": int((right_a & right_b).sum()),
        "only_first": lost,
        "only_second": won,
        "both_wrong": int((~right_a & ~right_b).sum()),
        "flipped": flipped[["index", "actual", "first", "second"]].to_dict("records"),
        "p_value": mcnemar(lost, won),
    }


def verdict(result: dict[str, Any]) -> str:
    """ "same", "better" or "worse", of the second run."""
    if result["p_value"] >= SIGNIFICANT:
        return "same"
    return "better" if result["only_second"] > result["only_first"] else "worse"


def report(result: dict[str, Any]) -> str:
    """The comparison for a person."""
    names, flipped, said = result["runs"], pd.DataFrame(result["flipped"]), verdict(result)
    changed = pd.DataFrame(result["parameters"], index=names, dtype=object).T
    paired = pd.DataFrame(
        [[result["both_right"], result["only_first"]], [result["only_second"], result["both_wrong"]]],
        index=[f"{names[0]} right", f"{names[0]} wrong"],
        columns=[f"{names[1]} right", f"{names[1]} wrong"],
    )
    chance = "the difference is no more than chance: neither is better"
    return f"""Parameters
{changed.to_string() if len(changed) else "the same"}

Test accuracy, with its 95 % interval
{pd.DataFrame(result["accuracy"], names).round(4).to_string()}

Test images
{paired.to_string()}

McNemar's exact p-value {result["p_value"]:.2g}: {chance if said == "same" else f"{names[1]} is {said}"}.
Two runs compare two models. Which recipe is better takes several seeds of each: python -m tools.sweep RECIPE --seeds 5

{len(flipped)} images flipped, of which up to {LISTED} are listed
{flipped.head(LISTED).to_string(index=False)}"""


def draw_flipped(result: dict[str, Any], actual: list[str]) -> str:
    """Draw the flipped images, and say where; those that the second run lost come first.

    `actual`: the classes of all test images, to know whether the working tree has the same ones.
    """
    test = load_dataset(TEST) if TEST.exists() else None
    if not test or [test.classes[label] for label in test.labels] != actual:
        return f"They are drawn where {TEST} holds these test images: dvc repro prepare"
    flipped = sorted(result["flipped"], key=lambda row: (row["first"] != row["actual"], row["index"]))[:DRAWN]
    captions = [f"{row['actual']}: {row['first']} → {row['second']}" for row in flipped]
    title = f"Flipped: {result['only_first']} lost and {result['only_second']} won by {result['runs'][1]}"
    draw_grid(PICTURE, test.images[[row["index"] for row in flipped]], captions, title, columns=8)
    return f"They are drawn in {PICTURE}: actual: first → second"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("first", metavar="A")
    parser.add_argument("second", metavar="B", help="a git revision, an experiment, or workspace")
    parser.add_argument("--gate", action="store_true", help="exit status 1 where B is significantly worse")
    parser.add_argument("--floor", type=float, metavar="ACCURACY", help="with --gate: or below this accuracy")
    parser.add_argument("--json", action="store_true", help="all of it, as JSON")
    options = parser.parse_args()
    if options.floor is not None and not options.gate:
        parser.error("--floor belongs to --gate")
    with plain_errors():
        first, second = load_run(options.first), load_run(options.second)
        result = compare(first, second)
        print(json.dumps(result, indent=2) if options.json else report(result))
        if result["flipped"] and not options.json:
            print(draw_flipped(result, list(first.predictions["actual"])))
        accuracy, floor = result["accuracy"][1]["accuracy"], options.floor or 0
        if options.gate and (verdict(result) == "worse" or accuracy < floor):
            raise PipelineError(
                "the gate is closed",
                found=f"accuracy {accuracy:.4f}, p = {result['p_value']:.2g}",
                expected=f"not significantly worse than {options.first}, and at least {floor}",
                where=options.second,
                run=f"python -m tools.compare '{options.first}' '{options.second}'   # which images were lost",
            )


if __name__ == "__main__":
    main()
