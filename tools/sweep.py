"""Train a recipe over seeds, or over a grid, in DVC's queue, and rank the experiments of this commit.

python -m tools.sweep sprint --seeds 5
python -m tools.sweep default --seeds 3 --set train.learning_rate=0.02,0.04 --set train.epochs=1,2
python -m tools.sweep                           the leaderboard alone

The same command again, after a crash or a failure, does only what is not done yet.
"""

import argparse
import json
import re
import subprocess
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import dvc.api
import pandas as pd
import yaml
from dvc.repo import Repo

from src.params import read_recipe, read_value
from src.stage import fail

SEED = "train.seed"
RECIPES = {"default": {}, **{path.stem: read_recipe(path) for path in sorted(Path("benchmarks/recipes").glob("*.txt"))}}

Settings = dict[str, Any]  # by dotted key


def jobs(recipe: str, seeds: int, grid: Iterable[str]) -> list[Settings]:
    """The values of each training: every seed from 0 with every combination of `key=value,value` in `grid`."""
    axes = [(key, values.split(",")) for key, _, values in (axis.partition("=") for axis in grid)]
    combinations = product(*([(key, read_value(value)) for value in values] for key, values in axes))
    return [{**RECIPES[recipe], **dict(chosen), SEED: seed} for chosen in combinations for seed in range(seeds)]


def base() -> Settings:
    """params.yaml as it is now."""
    flat: Settings = pd.json_normalize(yaml.safe_load(Path("params.yaml").read_text())).to_dict("records")[0]
    return flat


def experiments() -> pd.DataFrame:
    """A row each, as `dvc exp show` knows them; `State` is Queued, Running, Failed or Success."""
    table = pd.DataFrame(dvc.api.exp_show())
    return table[table["typ"] != "baseline"].fillna({"State": "Success"})  # those of no queue


def holds(row: pd.Series, settings: Settings) -> bool:
    """Whether an experiment has these values; DVC's table holds numbers as floats, and all else as text."""
    return all(
        row.get(key) == (value if type(value) in (int, float) else str(value)) for key, value in settings.items()
    )


def enqueue(wanted: list[Settings]) -> None:
    """Queue what is neither done nor waiting."""
    known, now = experiments(), base()
    known = known[known["State"] != "Failed"]
    for settings in wanted:
        if not any(holds(row, {**now, **settings}) for _, row in known.iterrows()):
            values = ((key, value if isinstance(value, str) else json.dumps(value)) for key, value in settings.items())
            options = [f"--set-param={key}={value}" for key, value in values]
            subprocess.run(["dvc", "exp", "run", "--queue", *options], check=True)


def fail_interrupted() -> None:
    """Call failed what the queue takes to be running though its worker is gone, as `dvc queue kill` does."""
    with Repo() as repo:
        queue = repo.experiments.celery_queue
        active = [entry.stash_rev for entry in queue.iter_active()]
        if active and not queue.worker_status():
            queue.kill(active)


def training_seconds() -> dict[str, float]:
    """Of the experiments that the queue ran, by the first digits of their commits: what their logs say."""
    seconds = {}
    with Repo() as repo:
        queue = repo.experiments.celery_queue
        for entry, result in queue.iter_success():
            log = Path(queue.proc[entry.stash_rev].stdout).read_text()
            if match := re.search(r"images in ([\d,.]+) s", log):
                commit = repo.scm.get_ref(str(result.ref_info)) or ""
                seconds[commit[:7]] = float(match[1].replace(",", ""))
    return seconds


def describe(row: pd.Series, now: Settings) -> str:
    """The recipe that an experiment is nearest to, and what it changes there beside the seed."""
    changes = {
        name: [key for key in now if key != SEED and not holds(row, {key: {**now, **recipe}[key]})]
        for name, recipe in RECIPES.items()
    }
    nearest = min(changes, key=lambda name: len(changes[name]))
    values = ((key, row.get(key)) for key in changes[nearest])
    shown = (f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in values)
    return " ".join([nearest, *shown])


def leaderboard() -> str:
    """The recipes by their mean validation accuracy; the test accuracy stands beside, and decides nothing."""
    table, now = experiments(), base()
    done = table[table["State"] == "Success"]
    done = done.assign(
        recipe=[describe(row, now) for _, row in done.iterrows()], seconds=done["rev"].map(training_seconds())
    ).drop_duplicates(["recipe", SEED])
    ranks = done.groupby("recipe")["validation_accuracy"].mean().sort_values(ascending=False)
    rows = []
    for recipe in ranks.index:
        runs = done[done["recipe"] == recipe]
        held_out = (runs["prepare.validation"] > 0).all()
        rows.append(
            {
                "recipe": recipe,
                "seeds": len(runs),
                "validation, %": _spread(runs["validation_accuracy"]) if held_out else "none held out",
                "test, %": _spread(runs["accuracy"]),
                "training, s": f"{runs['seconds'].mean():.1f}" if runs["seconds"].notna().any() else "-",
            }
        )
    lines = [pd.DataFrame(rows).to_string(index=False)] if rows else ["no experiment of this commit is done"]
    for state in ("Queued", "Running", "Failed"):
        names = table.loc[table["State"] == state, "Experiment"]
        if len(names):
            lines.append(f"{len(names)} {state.lower()}: {', '.join(names)}")
    return "\n".join(lines)


def _spread(accuracy: pd.Series) -> str:
    return f"{100 * accuracy.mean():.2f}" + (f" ± {100 * accuracy.std():.2f}" if len(accuracy) > 1 else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", nargs="?", choices=RECIPES)
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 0 on")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE,VALUE", help="an axis of the grid")
    options = parser.parse_args()
    if options.recipe:
        wanted = jobs(options.recipe, options.seeds, options.set)
        try:
            fail_interrupted()
            enqueue(wanted)
            subprocess.run(["dvc", "exp", "run", "--run-all"], check=True)
        except KeyboardInterrupt:
            fail("the queue goes on in the background; to end it: dvc queue stop --kill", status=130)
        except subprocess.CalledProcessError as error:
            fail(f"error: {' '.join(error.cmd)}: exit status {error.returncode}", status=1)
    print(leaderboard())
    if options.recipe:
        done, now = experiments(), base()
        done = done[done["State"] == "Success"]
        missing = [job for job in wanted if not any(holds(row, {**now, **job}) for _, row in done.iterrows())]
        if missing:
            fail(f"{len(missing)} of {len(wanted)} are not done: dvc queue logs NAME says why", status=1)


if __name__ == "__main__":
    main()
