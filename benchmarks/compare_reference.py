"""Train resnet18 on the images of data/sources/folder as torchvision's reference does, and with this pipeline.

python -m benchmarks.compare_reference --size 64 --epochs 5 --seeds 3

Both have the same split, batch size, optimizer, schedule and augmentation (a horizontal flip). The reference uses
ImageFolder, transforms image by image, a DataLoader with two workers, and float32.
"""

import argparse
import json
import os
import re
import shlex
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil

from src.data.dataset import SPLITS, load_split
from src.params import load_yaml, override, read_recipe

ROOT = Path.cwd()
SOURCE = ROOT / "data/sources/folder"
SETTINGS = read_recipe(ROOT / "benchmarks/recipes/reference.txt")


def measure(folder: Path, *commands: str) -> dict[str, float]:
    """Run Python modules one after the other in `folder`.

    Returns:
        Seconds from the start to the end of the first epoch, trained images per second, test accuracy, and the peak of
        private memory in MB, workers included.
    """
    log, memory, first_epoch, start = folder / "log", [0], 0.0, time.perf_counter()
    log.unlink(missing_ok=True)
    for command in commands:
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        with log.open("a") as output:
            process = psutil.Popen(
                [sys.executable, "-m", *shlex.split(command)], cwd=folder, env=environment, stdout=output
            )
        while process.poll() is None:
            with suppress(psutil.Error):
                tree = [process, *process.children(recursive=True)]
                memory.append(sum(info.rss - info.shared for info in (each.memory_info() for each in tree)))
            if not first_epoch and "\nepoch 1" in log.read_text():
                first_epoch = time.perf_counter() - start
            time.sleep(0.1)
        if process.returncode:
            raise SystemExit(f"error: `{command}` failed\nhint: see its messages above")
    text = log.read_text()
    steps, batch, seconds = re.findall(r"([\d,]+) steps of (\d+) images in ([\d.]+) s", text)[0]
    return {
        "first_epoch_s": first_epoch,
        "images_per_s": int(steps.replace(",", "")) * int(batch) / float(seconds),
        "accuracy": float(re.findall(r"accuracy ([01]\.\d+) ", text)[-1]),
        "peak_mb": max(memory) / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64, metavar="PIXELS", help="height and width of the images")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            values = load_yaml((ROOT / "params.yaml").read_text())
            sizes = {"prepare.image_size": options.size, "train.epochs": options.epochs, "train.seed": seed}
            override(values, {**SETTINGS, **sizes})
            (folder / "params.yaml").write_text(json.dumps(values))
            ours = measure(
                folder,
                f"stages.prepare --source {shlex.quote(str(SOURCE))} --raw raw --prepared prepared",
                "stages.train --prepared prepared --checkpoints checkpoints --model model --metrics metrics",
                "stages.evaluate --prepared prepared --model model --metrics metrics",
            )
            for split in SPLITS:
                for file in load_split(folder / "prepared", split).files:
                    (folder / split / file).parent.mkdir(parents=True, exist_ok=True)
                    (folder / split / file).symlink_to(SOURCE / file)
            theirs = measure(folder, "benchmarks.reference params.yaml")
        rows += [{"code": "pipeline", **ours}, {"code": "reference", **theirs}]
        print(*rows[-2:], sep="\n", flush=True)
    print(pd.DataFrame(rows).groupby("code").agg(["mean", "std"]).round(4).T.to_string())


if __name__ == "__main__":
    main()
