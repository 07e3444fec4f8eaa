"""List the images whose label is wrong, ambiguous or hard, the most suspicious first. Nothing is changed.

python -m tools.labels                         the training images of the workspace
python -m tools.labels EXPERIMENT EXPERIMENT   the mean of several runs, for example of all folds
python -m tools.labels --test                  the test images of the workspace

The score of a training image is its mean margin: how far, during training, the output for its label was above the
largest other one. Source: Pleiss et al., Identifying Mislabeled Data using the Area Under the Margin Ranking, 2020.
The score of a test image is the probability of its label.
"""

import argparse
from pathlib import Path

import pandas as pd

from src.data.dataset import load_split
from src.reporting.drawing import draw_image_grid
from src.runtime.cli import exit_on_error
from src.runtime.errors import PipelineError
from tools.project import FIGURES, MARGINS, PREDICTIONS, PREPARED, read_run

MAX_PRINTED, MAX_DRAWN = 20, 40  # images


def rank(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row per image, those with the lowest score first.

    Args:
        table: margins or predictions of one run or of several. An image of several runs gets their mean score, and
            the suggestion of the run with the lowest one.

    Returns:
        index, file (if there are files), given, suggested, and margin or probability (of the given label).

    Raises:
        PipelineError: there are no images, or the runs have different ones.
    """
    keys = [key for key in ("index", "file") if key in table]
    images = table[[*keys, "actual"]].drop_duplicates()
    if images.empty or images["index"].duplicated().any():
        found = "have no images" if images.empty else "have images of different data sets"
        raise PipelineError(f"the runs {found}", "python -m tools.labels --help")
    score = "margin" if "margin" in table else "probability"
    table = table.rename(columns={"actual": "given", "predicted": "suggested"})
    ranked = table.sort_values(score, kind="stable").drop_duplicates(keys).set_index(keys)
    ranked[score] = table.groupby(keys)[score].mean()
    return ranked.sort_values([score, *keys]).reset_index()[[*keys, "given", "suggested", score]]


def draw(ranked: pd.DataFrame, split: str) -> None:
    """Draw the most suspicious images in dvc_plots/labels.png.

    Raises:
        PipelineError: the workspace has other images.
    """
    shown, dataset = ranked.head(MAX_DRAWN), load_split(PREPARED, split)
    known = dict(enumerate(dataset.labels.tolist()))
    if [dataset.classes[known[i]] if i in known else "" for i in shown["index"]] != list(shown["given"]):
        raise PipelineError(f"the images are not those of {PREPARED}", "dvc repro prepare   # of the same experiment")
    names = [f"\n{Path(file).name}" for file in shown["file"]] if "file" in shown else [""] * len(shown)
    captions = [f"{row.given}\n→ {row.suggested}?{name}" for row, name in zip(shown.itertuples(), names, strict=True)]
    title = f"The {len(shown)} most suspicious of {len(ranked):,} labels (given → suggested)"
    draw_image_grid(FIGURES / "labels.png", dataset.images[shown["index"]], captions, title, columns=10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", metavar="RUN", default=["workspace"], help="experiment or git revision")
    parser.add_argument("--test", action="store_true", help="the test images instead of the training images")
    options = parser.parse_args()
    with exit_on_error():
        table = PREDICTIONS if options.test else MARGINS
        ranked = rank(pd.concat([read_run(run, table) for run in options.runs]))
        FIGURES.mkdir(exist_ok=True)
        ranked.to_csv(FIGURES / "labels.csv", index=False)
        print(ranked.head(MAX_PRINTED).to_string(index=False))
        print(f"{len(ranked):,} images are listed in {FIGURES / 'labels.csv'}")
        draw(ranked, "test" if options.test else "train")
        print(f"the first ones are drawn in {FIGURES / 'labels.png'}")


if __name__ == "__main__":
    main()
