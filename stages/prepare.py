"""Download and verify the data set or read a folder of images, and write training and test set."""

from pathlib import Path

from src.data.dataset import SPLITS, save_split
from src.params.prepare import PrepareParams
from src.runtime.cli import run_stage
from src.runtime.files import exclusive_lock, main_checkout
from src.sources.download import decode, download, read_spec
from src.sources.folder import read_folder


def main(prepare: PrepareParams, source: Path, raw: Path, prepared: Path) -> None:
    if prepare.dataset == "folder":
        splits = read_folder(source, prepare, prepared)
    else:
        spec = read_spec(source)
        with exclusive_lock(main_checkout(Path(".dvc/tmp/raw.lock"))):  # parallel experiments share data/raw
            files = download(main_checkout(raw), spec)
        train, test = (decode(files, prefix, spec.classes, prepare.dataset) for prefix in ("train", "t10k"))
        splits = train, test
    for split, dataset in zip(SPLITS, splits, strict=True):
        save_split(prepared, split, dataset)
        print(f"{split}: {len(dataset):,} images of {len(dataset.classes)} classes", flush=True)


if __name__ == "__main__":
    run_stage(main)
