"""Train a recipe with several seeds, or over a grid of parameters, in DVC's queue, and rank the results.

python -m tools.sweep sprint --seeds 5
python -m tools.sweep default --seeds 3 -S train.learning_rate=0.05,0.1 -S 'train.epochs=range(1,4)'
python -m tools.sweep my-recipe.txt --folds 5
python -m tools.sweep default -S train.fraction=0.25,0.5,1     also draws a learning curve, if no other parameter varies
python -m tools.sweep                           print the leaderboard of this commit and run nothing

Repeat the command after a crash or a failure: it runs only what is not done. Commit changed code first, because
finished runs are recognized by their parameters and their commit.
"""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.ui import ui
from dvc.utils.flatten import flatten
from dvc.utils.hydra import get_hydra_sweeps, to_hydra_overrides
from hydra.errors import HydraException

from src.reporting.drawing import BLUE, saved_figure
from src.runtime.cli import exit_on_error
from src.runtime.errors import PipelineError
from tools.project import FIGURES
from tools.recipes import PARAMS, RECIPES, load_params, load_recipe

SEED, FOLD = "train.seed", "train.fold"
FOLDER = "data/sources/folder"

Job = tuple[str, ...]  # the overrides of one training: ("train.epochs=2", "train.seed=0", ...)
Values = dict[str, float | str]  # parameters by dotted key


def expand_grid(recipe: Mapping[str, Any], options: Sequence[str]) -> dict[Job, Values]:
    """Return one job per combination of the values in `options`, with all its parameters.

    Args:
        recipe: values by dotted key. The options replace them.
        options: what `dvc exp run --set-param` takes: "train.learning_rate=0.05,0.1", "train.seed=range(3)".

    Raises:
        PipelineError: an option is not in DVC's grammar, or a combination does not match the schema.
    """
    overrides = [*(f"{key}={value}" for key, value in recipe.items()), *options]
    try:
        grid = get_hydra_sweeps({str(PARAMS): overrides})
        return {job: job_params(job) for job in (tuple(settings[str(PARAMS)]) for settings in grid)}
    except (HydraException, DvcException, KeyError, TypeError) as error:
        raise PipelineError(f"invalid --set-param: {error}", "python -m tools.sweep --help") from None


def job_params(job: Job) -> Values:
    """Return the parameters of a job: params.yaml with its overrides."""
    params = load_params({item.key_or_group: item.value() for item in to_hydra_overrides(job)})
    values: Values = flatten({name: section.model_dump() for name, section in vars(params).items()})
    return values


def load_experiments() -> pd.DataFrame:
    """Return the experiments of this commit. Those outside the queue count as Success."""
    table = pd.DataFrame(dvc.api.exp_show())
    table = table.reindex(columns=table.columns.union(["validation_accuracy", "accuracy"]))
    table = table.replace({"True": True, "False": False})  # exp_show returns booleans as text
    return table[table["typ"] != "baseline"].fillna({"State": "Success"})


def find_pending(jobs: Mapping[Job, Values], *states: str) -> list[Job]:
    """Return the jobs without an experiment in one of `states`."""
    table = load_experiments()
    known = table[table["State"].isin(states)].to_dict("records")
    return [job for job, values in jobs.items() if not any(values.items() <= row.items() for row in known)]


def check_images(jobs: Mapping[Job, Values]) -> None:
    """Raise PipelineError if a job needs a folder of images that is not under version control.

    The queue works in a copy of the project that has only files that git or DVC tracks.
    """
    needed = any(values["prepare.dataset"] == "folder" for values in jobs.values())
    if needed and not subprocess.run(["git", "ls-files", f"{FOLDER}*"], capture_output=True, check=True).stdout:
        raise PipelineError(
            f"{FOLDER} is not under version control, so experiments in the queue cannot read it",
            f"dvc add {FOLDER} && git add {FOLDER}.dvc   # then repeat the command",
        )


def run(jobs: Mapping[Job, Values]) -> list[Job]:
    """Queue the jobs that are neither done nor waiting, wait for the queue to finish, and return those not done."""
    check_images(jobs)
    paths = ["src", "stages", "dvc.yaml", "requirements.txt"]
    changes = subprocess.run(["git", "status", "--porcelain", "--", *paths], capture_output=True, text=True, check=True)
    if changes.stdout:
        print(f"warning: uncommitted changes; experiments may differ:\n{changes.stdout}", file=sys.stderr)
    for job in find_pending(jobs, "Queued", "Running", "Success"):
        subprocess.run(["dvc", "exp", "run", "--queue", *(f"--set-param={item}" for item in job)], check=False)
    ui.enable()  # print the logs
    with Repo() as repo:
        # `dvc exp run --run-all` also waits for running jobs: forever if their worker was killed
        repo.experiments.reproduce_celery(list(repo.experiments.celery_queue.iter_queued()))
    return find_pending(jobs, "Success")


def nearest_recipe(experiment: Mapping[str, Any], base: Values) -> str:
    """Return the name of the recipe with the fewest differences from an experiment, and these differences.

    Args:
        base: params.yaml of this commit, which the recipes change.
    """
    differences = {}
    for name in ("default", *RECIPES):
        expected = base | load_recipe(name) | {SEED: experiment[SEED], FOLD: experiment[FOLD]}
        changed = {key: experiment[key] for key in base if experiment[key] != expected[key]}
        differences[name] = [f"{key}={str(value).removesuffix('.0')}" for key, value in changed.items()]
    nearest = min(differences, key=lambda name: len(differences[name]))
    return " ".join([nearest, *differences[nearest]])


def leaderboard(done: pd.DataFrame, base: Values) -> str:
    """Rank recipes by their mean validation accuracy in %. The test accuracy is shown, but decides nothing.

    Args:
        base: params.yaml of this commit.
    """
    done = done.assign(
        recipe=[nearest_recipe(row, base) for row in done.to_dict("records")],
        validation=100 * done["validation_accuracy"],
        test=100 * done["accuracy"],
    )
    recipes = done.drop_duplicates(["recipe", SEED, FOLD]).groupby("recipe")[["validation", "test"]]
    board = recipes.agg(["count", "mean", "std"]).sort_values(("validation", "mean"), ascending=False)
    rows = board.to_string(na_rep="-", float_format="{:.2f}".format)
    return rows if len(done) else "no experiment of this commit is done"


def learning_curve(done: pd.DataFrame) -> str:
    """Draw the mean validation accuracy by number of training images, and return a sentence on the last two.

    Args:
        done: successful experiments that differ in `train.fraction`, and in nothing else but seeds and folds.
    """
    curve = done.groupby("train.fraction")[["train_images", "validation_accuracy"]].mean()
    path = FIGURES / "learning_curve.png"
    with saved_figure(path, 7, 4) as figure:
        axis = figure.subplots()
        axis.plot(*curve.to_numpy().T, color=BLUE, marker="o")
        axis.set(title="Would more images help?", xlabel="training images", ylabel="validation accuracy")
    (few, low), (many, high) = curve.to_numpy()[-2:]
    gain = f"{100 * low:.2f} % with {few:,.0f} training images, {100 * high:.2f} % with {many:,.0f}"
    return f"validation accuracy: {gain}. Drawn in {path}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", help=f"a file, default, or one of {', '.join(RECIPES)}")
    parser.add_argument("-S", "--set-param", action="append", default=[], metavar="KEY=VALUES", help="as dvc exp run")
    parser.add_argument("--seeds", type=int, metavar="N", help=f"the same as -S '{SEED}=range(N)'")
    parser.add_argument("--folds", type=int, metavar="N", help="validate on each of N parts of the training images")
    options = parser.parse_args()
    seeds = [f"{SEED}=range({options.seeds})"] if options.seeds else []
    folds = [f"train.folds={options.folds}", f"{FOLD}=range({options.folds})"] if options.folds else []
    settings = options.set_param + seeds + folds
    with exit_on_error():
        is_sweep = options.recipe or settings
        jobs = expand_grid(load_recipe(options.recipe or "default"), settings) if is_sweep else {}
        pending = run(jobs) if jobs else []
        base = flatten(dvc.api.params_show(str(PARAMS), rev="HEAD"))
        experiments = load_experiments()
        done = experiments[experiments["State"] == "Success"]
        print(leaderboard(done, base))
        rows = done.to_dict("records")
        swept = pd.DataFrame([row for row in rows if any(job.items() <= row.items() for job in jobs.values())])
        varied = {key for key in base if len(swept) and swept[key].nunique() > 1}
        if varied - {SEED, FOLD} == {"train.fraction"}:
            print(learning_curve(swept))
        if pending:
            hint = "dvc queue status   # failed: `dvc queue logs NAME`; running without a worker: `dvc queue kill NAME`"
            raise PipelineError(f"{len(pending)} of {len(jobs)} runs are not done", hint)


if __name__ == "__main__":
    main()
