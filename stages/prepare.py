"""Obtain MNIST, verify it, hold out a validation set, and write the three splits."""

from pathlib import Path

from src.dataset import save_dataset
from src.errors import PipelineError
from src.mnist import decode, obtain, read_checksums
from src.params import Params
from src.split import stratified_split
from src.stage import run_stage


def main(params: Params, checksums: Path, package: Path, raw: Path, train: Path, validation: Path, test: Path) -> None:
    files = obtain(raw, read_checksums(checksums), package)
    everything, test_set = decode(files, "train"), decode(files, "t10k")
    held_out = params.prepare.validation
    try:
        kept, chosen = stratified_split(everything.labels, held_out, params.prepare.seed)
    except ValueError as error:
        raise PipelineError(
            "the validation set does not fit the data",
            found=error,
            expected="an image of each class on either side, or 0 to measure every epoch on the test set",
            where="params.yaml: prepare.validation",
            run="dvc exp run -S prepare.validation=0",
        ) from None
    validation_set = everything[chosen] if held_out else test_set

    for path, split in ((train, everything[kept]), (validation, validation_set), (test, test_set)):
        save_dataset(path, split)
        print(f"{path}: {len(split):,} images", flush=True)


if __name__ == "__main__":
    run_stage(main)
