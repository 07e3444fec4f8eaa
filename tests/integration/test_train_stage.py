"""Imports and first batch of the stage `train`."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from src.data.dataset import save_dataset
from tests.helpers import ROOT, command_of, edit_params, random_dataset, run

PROCESSES = 300
CODE = """
import hashlib
import os
import sys

import src.training.loop
from src.runtime.cli import run_stage
from stages.train import main


def print_digest(state, images, labels):
    os.write(terminal, hashlib.sha256(images.contiguous().numpy().tobytes()).hexdigest().encode() + b"\\n")
    os._exit(0)


src.training.loop.train_step = print_digest
terminal = os.dup(1)
os.dup2(2, 1)
for _ in range(int(sys.argv.pop(1))):
    if not (process := os.fork()):
        run_stage(main)
    os.waitpid(process, 0)
"""


def test_training_with_the_default_recipe_does_not_import_dynamo(prepared: Path) -> None:
    """It takes as long to import as the rest of torch."""
    _, *words = command_of("train")
    done = run(["python", "-X", "importtime", *words], prepared, PYTHONPATH=str(ROOT))
    assert "torch.optim" in done.stderr
    assert "torch._dynamo" not in done.stderr


@pytest.mark.long
def test_first_batch_has_the_same_bytes_in_every_process(prepared: Path, count: Callable[[str], None]) -> None:
    """Two threads augment 55,000 images. Before `choose_mkl_kernels`, about 4 of 300 processes had other bytes."""
    save_dataset(prepared / "data/prepared/train.safetensors", random_dataset(55_000))
    edit_params(prepared, {"train.threads": 2})
    options = command_of("train")[3:]
    done = run(["python", "-c", CODE, str(PROCESSES), *options], prepared, PYTHONPATH=str(ROOT))
    digests = Counter(done.stdout.split())
    assert digests.total() == PROCESSES, done.stderr
    assert len(digests) == 1, digests
    count(f"the first batch has the same bytes in {PROCESSES} of {PROCESSES} processes")
