"""Train a recipe over seeds, or over a grid, in DVC's queue, and rank the experiments of this commit.

python -m tools.sweep sprint --seeds 5
python -m tools.sweep default --seeds 3 --set train.learning_rate=0.02,0.04 --set train.epochs=1,2
python -m tools.sweep                           the leaderboard alone

The same command again, after a crash or a failure, does only what is not done yet. Commit changed code first: what is
done is known by its parameters and its commit.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import dvc.api
import pandas as pd
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.flatten import flatten
from pydantic import ValidationError

from src.params import Params, load_params, read_recipe, read_value, set_values
from src.runtime.cli import fail, plain_errors
from src.runtime.errors import PipelineError

SEED = "train.seed"
PARAMS = Path("params.yaml")
RECIPES = {"default": {}, **{path.stem: read_recipe(path) for path in sorted(Path("benchmarks/recipes").glob("*.txt"))}}
METRICS = ["validation_accuracy", "accuracy"]
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}

Settings = dict[str, Any]  # by dotted key


def jobs(recipe: str, seeds: int, grid: Iterable[str]) -> list[Settings]:
    """The values of each training: every seed from 0 with every combination of `key=value,value` in `grid`."""
    axes = [(key, values.split(",")) for key, _, values in (axis.partition("=") for axis in grid)]
    combinations = product(*([(key, read_value(value)) for value in values] for key, values in axes))
    return [{**RECIPES[recipe], SEED: seed, **dict(chosen)} for chosen in combinations for seed in range(seeds)]


def check(wanted: list[Settings]) -> None:
    """Raises PipelineError where the values of a job are not valid parameters, before anything is queued."""
    load_params(PARAMS)
    for settings in wanted:
        values = read_value(PARAMS.read_text())
        try:
            set_values(values, settings)
            Params.model_validate(values)
        except (KeyError, TypeError, ValidationError) as error:
            raise PipelineError(
                "a job of this sweep is not valid",
                found=f"no section {error}" if isinstance(error, KeyError) else error,
                expected="keys and values that params.yaml may have",
                where=", ".join(f"{key}={value}" for key, value in settings.items()),
                run="python -m tools.sweep --help",
            ) from None


def base(revision: str | None = None) -> Settings:
    """params.yaml as it is now, or in a revision."""
    return dict(flatten(read_value(dvc.api.read(str(PARAMS), rev=revision))))


def experiments() -> pd.DataFrame:
    """A row each, as `dvc exp show` knows them; `State` is Queued, Running, Failed or Success."""
    table = pd.DataFrame(dvc.api.exp_show())
    table = table[table["typ"] != "baseline"].fillna({"State": "Success"})  # those of no queue
    return table.reindex(columns=[*table.columns, *(name for name in METRICS if name not in table)])


def holds(row: pd.Series, settings: Settings) -> bool:
    """Whether an experiment has these values; DVC's table holds numbers as floats, and all else as text."""
    return all(
        row.get(key) == (value if type(value) in (int, float) else str(value)) for key, value in settings.items()
    )


def lacking(wanted: list[Settings], *states: str) -> list[Settings]:
    """Those of `wanted` that no experiment in one of these states holds."""
    table, now = experiments(), base()
    known = table[table["State"].isin(states)]
    return [job for job in wanted if not any(holds(row, {**now, **job}) for _, row in known.iterrows())]


def fail_interrupted() -> None:
    """Call failed what the queue takes to be running though its worker was killed, so that it is queued anew.

    `dvc queue kill` would do the same, but is content where the dead process is still in the table of processes.
    """
    with Repo() as repo:
        queue = repo.experiments.celery_queue
        active = list(queue._iter_active_tasks())
        if active and not queue.celery.control.inspect(timeout=10, limit=1).active():  # a busy worker may be slow
            for task, _ in active:
                queue.celery.backend.mark_as_failure(task.id, None)


def run(wanted: list[Settings]) -> None:
    """Queue what is neither done nor waiting, and follow the queue to its end."""
    check(wanted)
    fail_interrupted()
    for settings in lacking(wanted, "Queued", "Running", "Success"):
        values = ((key, value if isinstance(value, str) else json.dumps(value)) for key, value in settings.items())
        options = [f"--set-param={key}={value}" for key, value in values]
        subprocess.run(["dvc", "exp", "run", "--queue", *options], env=ENVIRONMENT, check=True)
    try:
        subprocess.run(["dvc", "exp", "run", "--run-all"], env=ENVIRONMENT, check=True)
    except KeyboardInterrupt:
        fail("the queue goes on in the background; to end it: dvc queue stop --kill", status=130)


def training_seconds() -> dict[str, float]:
    """Of the experiments that the queue ran, by the first digits of their commits: what their logs say."""
    seconds = {}
    with Repo() as repo:
        queue = repo.experiments.celery_queue
        for entry, result in queue.iter_success():
            process = queue.proc.get(entry.stash_rev)
            match = process and re.search(r"images in ([\d.]+) s", Path(process.stdout).read_text())
            if match:
                commit = repo.scm.get_ref(str(result.ref_info)) or ""
                seconds[commit[:7]] = float(match[1])
    return seconds


def describe(row: pd.Series, now: Settings) -> str:
    """The recipe that an experiment is nearest to, and what it changes there beside the seed."""
    changes: list[list[str]] = []
    for name, recipe in RECIPES.items():
        wanted = {**now, **recipe, SEED: row[SEED]}
        other = [key for key in now if not holds(row, {key: wanted[key]})]
        changes.append([name, *(f"{key}={str(row[key]).removesuffix('.0')}" for key in other)])
    nearest = min(changes, key=len)
    return " ".join(nearest)


def leaderboard() -> str:
    """The recipes by their mean validation accuracy; the test accuracy stands beside, and decides nothing.

    Where no validation images were held out, `validation_accuracy` is one of the test set: it does not count.
    """
    table, now = experiments(), base("HEAD")
    done = table[table["State"] == "Success"]
    done = done.assign(
        recipe=[describe(row, now) for _, row in done.iterrows()],
        seconds=done["rev"].map(training_seconds()),
        validation=done["validation_accuracy"].where(done["prepare.validation"] != 0),
    ).drop_duplicates(["recipe", SEED])
    recipes = done.groupby("recipe")
    board = pd.DataFrame(
        {
            "seeds": recipes.size(),
            "validation, %": recipes["validation"].agg(_spread),
            "test, %": recipes["accuracy"].agg(_spread),
            "training, s": recipes["seconds"].mean(),
        }
    )
    board = board.loc[recipes["validation"].mean().sort_values(ascending=False).index].reset_index()
    shown = board.to_string(index=False, na_rep="-", float_format="{:.1f}".format)
    lines = [shown if len(board) else "no experiment of this commit is done"]
    for state in ("Queued", "Running", "Failed"):
        names = table.loc[table["State"] == state, "Experiment"]
        if len(names):
            lines.append(f"{len(names)} {state.lower()}: {', '.join(names)}")
    return "\n".join(lines)


def _spread(accuracy: pd.Series) -> str:
    if accuracy.isna().any():
        return "-"
    return f"{100 * accuracy.mean():.2f}" + (f" ± {100 * accuracy.std():.2f}" if len(accuracy) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", choices=RECIPES)
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0 on")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE,VALUE", help="an axis of the grid")
    options = parser.parse_args()
    plain = all(re.fullmatch(r"[\w.]+=[\w.+-]+(,[\w.+-]+)*", axis) for axis in options.set)
    if not plain or options.seeds < 1 or (not options.recipe and (options.set or options.seeds > 1)):
        parser.error("a recipe takes --seeds, at least 1, and --set KEY=VALUE,VALUE with plain values")
    if options.seeds > 1 and any(axis.startswith(f"{SEED}=") for axis in options.set):
        parser.error(f"--seeds or --set {SEED}=..., not both")
    wanted = jobs(options.recipe, options.seeds, options.set) if options.recipe else []
    with plain_errors():
        try:
            if wanted:
                run(wanted)
            print(leaderboard())
            missing = lacking(wanted, "Success")
        except (DvcException, subprocess.CalledProcessError) as error:
            fail(f"error: {error}", status=1)
    if missing:
        hint = "`dvc queue logs NAME` says why, `dvc queue remove --failed` forgets them"
        fail(f"error: {len(missing)} of {len(wanted)} are not done; {hint}", status=1)


if __name__ == "__main__":
    main()
