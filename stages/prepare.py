"""Obtain the data set, verify it, hold out a validation set, and write the three splits."""

from pathlib import Path

from src.data.dataset import save_dataset
from src.params import Params
from src.runtime.cli import only_writer, run_stage
from src.sources.download import decode, obtain, read_source
from src.sources.folder import read_folder
from src.sources.split import stratified_split


def main(params: Params, source: Path, raw: Path, train: Path, validation: Path, test: Path) -> None:
    settings = params.prepare
    if settings.dataset == "folder":
        images = read_folder(source)
        count = max(1, round(settings.test * len(images)))
        rest, held_out = stratified_split(images.labels, count, settings.seed, "prepare.test")
        everything, test_set = images[rest], images[held_out]
    else:
        described = read_source(source)
        with only_writer(of_the_project(Path(".dvc/tmp/raw.lock"))):  # experiments may run side by side
            files = obtain(of_the_project(raw), described)
        everything, test_set = (decode(files, prefix, described.classes) for prefix in ("train", "t10k"))
    kept, held_out = stratified_split(everything.labels, settings.validation, settings.seed)
    validation_set = everything[held_out] if settings.validation else test_set

    for path, part in ((train, everything[kept]), (validation, validation_set), (test, test_set)):
        save_dataset(path, part)
        print(f"{path}: {len(part):,} images of {len(part.classes)} classes", flush=True)


def of_the_project(path: Path) -> Path:
    """`path` itself, or that of the project in whose .dvc/tmp/exps this copy of the tree stands, for one experiment."""
    for folder in Path.cwd().parents:
        if folder.match(".dvc/tmp/exps"):
            return folder.parents[2] / path
    return path


if __name__ == "__main__":
    run_stage(main)
