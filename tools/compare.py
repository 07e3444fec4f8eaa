"""Compare two revisions, experiments or the workspace: parameters, accuracy, images that only one gets right.

python -m tools.compare HEAD~1 HEAD
python -m tools.compare HEAD workspace --gate 0.993    exit with 1 if the second run is worse or below 99.3 %

The report is Markdown, for a pull request.
"""

import argparse

import numpy as np
import pandas as pd
from dvc.repo import Repo

from src.data.dataset import load_split, split_path
from src.evaluation.metrics import RESAMPLES, accuracy_interval
from src.reporting.drawing import draw_image_grid
from src.reporting.model_card import markdown_table
from src.runtime.cli import exit_on_error
from src.runtime.errors import PipelineError
from tools.project import FIGURES, PREDICTIONS, PREPARED, read_run

SIGNIFICANCE = 0.05
MAX_SHOWN = 12  # images that only the first run gets right, and as many that only the second gets right


class Comparison:
    """The differences between the predictions of two runs on the same test images.

    Attributes:
        correct: bool columns `first` and `second`: which images each run classifies correctly.
        groups: the group of each image, or None.
        flipped: images that only one run classifies correctly, first those that the second run gets wrong. Both groups
            have the `MAX_SHOWN` images with the highest confidence in a wrong class.
        lost: how many images only the first run classifies correctly.
        won: how many images only the second run classifies correctly.
        p_value: of McNemar's test, or with groups of the sign-flip test.

    Raises:
        PipelineError: the test images differ.
    """

    def __init__(self, runs: list[str], first: pd.DataFrame, second: pd.DataFrame) -> None:
        same = ["actual", "file"]
        if not first.filter(same).equals(second.filter(same)):
            raise PipelineError(
                f"{' and '.join(runs)} were evaluated on different test images ({len(first):,} and {len(second):,})",
                f"dvc params diff '{runs[0]}' '{runs[1]}'   # shows whether the section prepare differs",
            )
        images = first.filter(["actual", "predicted", "file"]).rename(columns={"predicted": "first"})
        images["second"] = second["predicted"]
        correct = images[["first", "second"]].eq(images["actual"], axis=0)
        is_lost, is_won = correct["first"] & ~correct["second"], correct["second"] & ~correct["first"]
        images["confidence"] = second["confidence"].where(is_lost, first["confidence"])  # of the wrong prediction
        images = images.sort_values("confidence", ascending=False, kind="stable")
        self.runs, self.correct = runs, correct
        self.flipped = pd.concat([images.loc[is_lost].head(MAX_SHOWN), images.loc[is_won].head(MAX_SHOWN)])
        self.lost, self.won = int(is_lost.sum()), int(is_won.sum())
        self.groups = first["group"].to_numpy() if "group" in first else None
        gain = is_won.to_numpy(int) - is_lost.to_numpy(int)
        self.p_value = mcnemar(self.lost, self.won) if self.groups is None else sign_flip_test(gain, self.groups)


def diff_params(first: str, second: str) -> pd.DataFrame:
    """Return the two values of each parameter that differs between two runs, one row per dotted key."""
    with Repo() as repo:
        changes = repo.params.diff(first, second).get("diff", {}).get("params.yaml", {})
    return pd.DataFrame(changes, ["old", "new"], dtype=object).T.sort_index()


def sign_flip_test(gain: np.ndarray, groups: np.ndarray) -> float:
    """Return the two-sided p-value that two models are equally accurate, if the images of a group are alike.

    Under this hypothesis, the gain of each group is as likely positive as negative. Like McNemar's test, with groups in
    place of images. Source: Fisher, The Design of Experiments, 1935.

    Args:
        gain: integers [n], 1 if only the second model classifies an image correctly, -1 if only the first.
    """
    gains = np.bincount(np.unique(groups, return_inverse=True)[1], weights=gain)
    gains = gains[gains != 0]
    random = np.random.default_rng(0)
    sums = np.array([random.choice([-1, 1], len(gains)) @ gains for _ in range(RESAMPLES)])
    return float((1 + (abs(sums) >= abs(gains.sum())).sum()) / (1 + RESAMPLES))


def mcnemar(lost: int, won: int) -> float:
    """Return the exact two-sided p-value of McNemar's test that two models are equally accurate.

    Under this hypothesis, each image that only one of the two models classifies correctly is a fair coin toss.

    Source: McNemar, Note on the Sampling Error of the Difference between Correlated Proportions, 1947.

    Args:
        lost: how many images only the first model classifies correctly.
        won: how many images only the second model classifies correctly.
    """
    count = lost + won
    term = tail = 1  # the current binomial coefficient, and the sum so far
    for heads in range(min(lost, won)):
        term = term * (count - heads) // (heads + 1)
        tail += term
    return float(min(1, 2 * tail / 2**count))


def to_markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown, with its index as the first column."""
    return markdown_table(["", *table.columns], table.itertuples())


def format_report(result: Comparison, changed_params: pd.DataFrame) -> str:
    """Return the comparison as Markdown."""
    first, second = result.runs
    names = {"first": first, "second": second}
    intervals = {run: accuracy_interval(result.correct[run].to_numpy(), result.groups) for run in result.correct}
    accuracy = pd.DataFrame(intervals, ["low", "high"]).T.rename(names)
    accuracy.insert(0, "accuracy", result.correct.mean().rename(names))
    test = "McNemar's exact" if result.groups is None else "Sign-flip test of groups:"
    significant = "significant" if result.p_value < SIGNIFICANCE else "not significant"
    return f"""### Parameters of {first} and {second}

{"no difference" if changed_params.empty else to_markdown(changed_params)}

### Test accuracy with its 95 % interval

{to_markdown(accuracy.round(4))}

- {result.lost:,} test images right only in {first}, {result.won:,} right only in {second}
- {test} p-value {result.p_value:.2g}: the difference is {significant}
- This compares two models. To compare recipes, train several seeds of each: `python -m tools.sweep RECIPE --seeds 5`

### Flipped images: at most {MAX_SHOWN} that {second} gets wrong, and {MAX_SHOWN} that it gets right

{to_markdown(result.flipped.rename(columns=names))}
"""


def draw_flipped(result: Comparison, predictions: pd.DataFrame) -> str:
    """Draw the flipped images, and return a sentence that says where."""
    test_set = load_split(PREPARED, "test") if split_path(PREPARED, "test").exists() else None
    expected = [list(predictions.get("file", [])), list(predictions["actual"])]
    if not test_set or [list(test_set.files), [test_set.classes[label] for label in test_set.labels]] != expected:
        return f"To draw them, prepare their test set: `dvc repro prepare` writes it to {PREPARED}"
    captions = [f"{row.actual}\n{row.first} → {row.second}" for row in result.flipped.itertuples()]
    title = f"{result.runs[1]}: {result.lost} lost, {result.won} won (actual, first → second)"
    draw_image_grid(FIGURES / "flipped.png", test_set.images[result.flipped.index], captions, title, columns=8)
    return f"Drawn in {FIGURES / 'flipped.png'}"


def check_gate(result: Comparison, floor: float) -> None:
    """Raise PipelineError if the second run is significantly worse than the first, or its accuracy is below `floor`."""
    (first, second), accuracy = result.runs, result.correct["second"].mean()
    is_worse = result.lost > result.won and result.p_value < SIGNIFICANCE
    if is_worse or accuracy < floor:
        raise PipelineError(
            f"quality gate failed: {second} has accuracy {accuracy:.4f} (p = {result.p_value:.2g}),\n"
            f"expected not significantly worse than {first}, and at least {floor}",
            f"python -m tools.compare '{first}' '{second}'   # lists the images",
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs=2, metavar="RUN", help="two of: a git revision, an experiment, workspace")
    help_gate = "exit with 1 if the second run is significantly worse, or below this accuracy"
    parser.add_argument("--gate", type=float, nargs="?", const=0.0, metavar="FLOOR", help=help_gate)
    options = parser.parse_args()
    with exit_on_error():
        first, second = (read_run(run, PREDICTIONS).drop(columns="index") for run in options.runs)
        result = Comparison(options.runs, first, second)
        print(format_report(result, diff_params(*options.runs)))
        print(draw_flipped(result, first))
        if options.gate is not None:
            check_gate(result, options.gate)


if __name__ == "__main__":
    main()
