"""Train a recipe with several seeds, or over a grid of parameters, in DVC's queue, and rank the results.

python -m tools.sweep sprint --seeds 5
python -m tools.sweep default --seeds 3 -S train.learning_rate=0.05,0.1 -S 'train.epochs=range(1,4)'
python -m tools.sweep                           print the leaderboard of this commit and run nothing

Repeat the command after a crash or a failure: it runs only what is not done. Commit changed code first, because
finished runs are recognized by their parameters and their commit.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException
from dvc.utils.flatten import flatten
from dvc.utils.hydra import get_hydra_sweeps, to_hydra_overrides
from hydra.errors import HydraException

from src.runtime.cli import exit_on_error
from src.runtime.errors import PipelineError
from tools.recipes import PARAMS, load_params, read_recipe

SEED = "train.seed"
RECIPES = {"default": {}, **{path.stem: read_recipe(path) for path in sorted(Path("benchmarks/recipes").glob("*.txt"))}}
STATUS_ATTEMPTS = 3  # a busy worker may miss the one second in which `dvc queue status` waits for its answer
FOLDER = "data/sources/folder"
HELP = "python -m tools.sweep --help"

Job = tuple[str, ...]  # the overrides of one training: ("train.epochs=2", "train.seed=0", ...)
Values = dict[str, float | str]  # parameters by dotted key


def expand_grid(recipe: str, options: Sequence[str]) -> dict[Job, Values]:
    """Return one job per combination of the values in `options`, with its parameters.

    Args:
        recipe: a name in `RECIPES`. The options replace its values.
        options: what `dvc exp run --set-param` takes: "train.learning_rate=0.05,0.1", "train.seed=range(3)".

    Raises:
        PipelineError: an option is not in DVC's grammar, there is no combination, or one does not match the schema.
    """
    values = [f"{key}={value}" for key, value in RECIPES[recipe].items()]
    try:
        grid = get_hydra_sweeps({"params.yaml": [*values, *options]})
    except (HydraException, DvcException) as error:
        raise PipelineError(f"--set-param: {error}", HELP) from None
    if not grid:
        raise PipelineError(f"the grid is empty: {' '.join(options)}", HELP)
    return {job: job_params(job) for job in (tuple(overrides["params.yaml"]) for overrides in grid)}


def job_params(job: Job) -> Values:
    """Return the parameters of a job: params.yaml with its overrides.

    Raises:
        PipelineError: they do not match the schema.
    """
    try:
        params = load_params({item.key_or_group: item.value() for item in to_hydra_overrides(job)})
    except (KeyError, TypeError) as error:
        raise PipelineError(f"no section {error} in {PARAMS}", HELP) from None
    return flatten_params({name: section.model_dump() for name, section in vars(params).items()})


def flatten_params(values: dict[str, Any]) -> Values:
    """Return nested parameters by dotted key, with lists as text, as `dvc.api.exp_show` returns them."""
    return {key: str(value) if isinstance(value, list) else value for key, value in flatten(values).items()}


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


def check_workers() -> None:
    """Raise PipelineError if the queue waits for tasks whose worker was killed: DVC lists them as running forever."""
    for _ in range(STATUS_ATTEMPTS):
        status = subprocess.run(["dvc", "queue", "status"], capture_output=True, text=True, check=True).stdout
        names = " ".join(re.findall(r"^\S+ +(\S+) .*Running *$", status, flags=re.MULTILINE))
        if not names or " 0 active" not in status:
            return
    raise PipelineError(
        f"DVC lists {names} as running, but no worker of its queue is alive",
        f"dvc queue kill {names}   # marks it as failed; then repeat the command",
    )


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
    """Queue the jobs that are neither done nor waiting, wait for the queue to finish, and return the failed ones."""
    check_images(jobs)
    check_workers()
    if subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "src", "stages", "dvc.yaml"], check=False).returncode:
        print("warning: src, stages or dvc.yaml have uncommitted changes; experiments may differ", file=sys.stderr)
    for job in find_pending(jobs, "Queued", "Running", "Success"):
        subprocess.run(["dvc", "exp", "run", "--queue", *(f"--set-param={item}" for item in job)], check=True)
    try:
        subprocess.run(["dvc", "exp", "run", "--run-all"], check=True)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the queue runs on in the background until `dvc queue stop --kill`") from None
    return find_pending(jobs, "Success")


def nearest_recipe(experiment: Mapping[str, Any], base: Values) -> str:
    """Return the name of the recipe with the fewest differences from an experiment, and these differences.

    Args:
        experiment: a row of `load_experiments`.
        base: params.yaml of this commit, which the recipes change.
    """
    named = []
    # an experiment may have train.normalize.mean where the base has train.normalize; exp_show shows the other as None
    names = {tuple(key.split(".")[:2]) for key in base}
    params = [key for key, value in experiment.items() if tuple(key.split(".")[:2]) in names and value != "None"]
    for name, recipe in RECIPES.items():
        expected = base | recipe | {SEED: experiment[SEED]}
        changed = [key for key in params if experiment[key] != expected.get(key)]
        named.append([name, *(f"{key}={str(experiment[key]).removesuffix('.0')}" for key in changed)])
    nearest = min(named, key=len)
    return " ".join(nearest)


def leaderboard(experiments: pd.DataFrame, base: Values) -> str:
    """Rank recipes by their mean validation accuracy in %. The test accuracy is shown, but decides nothing.

    If no validation images were held out, `validation_accuracy` was measured on the test set and does not count.

    Args:
        experiments: what `load_experiments` returns.
        base: params.yaml of this commit.
    """
    is_done = experiments["State"] == "Success"
    done = experiments[is_done].assign(
        recipe=[nearest_recipe(row, base) for row in experiments[is_done].to_dict("records")],
        validation=100 * experiments["validation_accuracy"].where(experiments["prepare.validation"] != 0),
        test=100 * experiments["accuracy"],
    )
    recipes = done.drop_duplicates(["recipe", SEED]).groupby("recipe")[["validation", "test"]]
    board = recipes.agg(["mean", "std"])
    board.columns = board.columns.map(" ".join)
    board.insert(0, "seeds", recipes.size())
    board = board.sort_values("validation mean", ascending=False).reset_index()
    rows = board.to_string(index=False, na_rep="-", float_format="{:.2f}".format)
    others = experiments[~is_done].groupby("State")["Experiment"]
    lines = [f"{len(names)} {state.lower()}: {', '.join(names)}" for state, names in others]
    return "\n".join([rows if len(done) else "no experiment of this commit is done", *lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", choices=RECIPES)
    parser.add_argument("-S", "--set-param", action="append", default=[], metavar="KEY=VALUES", help="as dvc exp run")
    parser.add_argument("--seeds", type=int, metavar="N", help=f"the same as -S '{SEED}=range(N)'")
    options = parser.parse_args()
    settings = options.set_param + ([] if options.seeds is None else [f"{SEED}=range({options.seeds})"])
    if settings and not options.recipe:
        parser.error("--seeds and --set-param need a recipe")
    with exit_on_error():
        try:
            jobs = expand_grid(options.recipe, settings) if options.recipe else {}
            failed = run(jobs) if jobs else []
            base = flatten_params(dvc.api.params_show(str(PARAMS), rev="HEAD"))
            print(leaderboard(load_experiments(), base))
        except (DvcException, subprocess.CalledProcessError) as error:
            raise PipelineError(str(error), "dvc queue status") from None
        if failed:
            raise PipelineError(
                f"{len(failed)} of {len(jobs)} runs are not done",
                "dvc queue logs NAME   # why one failed; `dvc queue remove --failed` forgets the failed ones",
            )


if __name__ == "__main__":
    main()
