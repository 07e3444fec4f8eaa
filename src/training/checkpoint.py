"""Checkpoints: an interrupted training run resumes from the last one."""

import hashlib
import json
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from src.data.dataset import split_path
from src.data.tensor_file import explain_damage, load_tensors, read_digest, save_tensors
from src.models.model_file import to_arrays
from src.params.base import Section
from src.runtime.files import exclusive_lock
from src.training.distributed import all_reduce, is_main_process
from src.training.state import Metrics, TrainState

SECONDS = 10  # between saves; a killed run loses about this much


def describe_run(sections: Mapping[str, Section], prepared: Path) -> dict[str, Any]:
    """Return what determines the result of training: parameters, and the SHA-256 of the images and labels.

    Values that mean "off" are left out, so that a new parameter that is off changes no byte of the model.
    """
    parameters = {
        name: {key: value for key, value in section.model_dump(mode="json").items() if value}  # not 0, false or empty
        for name, section in sections.items()
    }
    return parameters | {"data": read_digest(split_path(prepared, "train"))}


def run_hash(run: Mapping[str, Any], environment: Mapping[str, str | int]) -> str:
    """Return a hash of parameters, data, code and environment. Equal hashes give equal weights on equal processors.

    Args:
        run: what `describe_run` returns.
        environment: what `DeviceSetup.environment` returns.
    """
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    code = {name: file for name, file in files.items() if file and name.split(".")[0] in ("__main__", "src", "stages")}
    parts = {
        **run,
        "environment": environment,
        "code": {name: hashlib.sha256(Path(file).read_bytes()).hexdigest() for name, file in code.items()},
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:15]  # fits into int64


class Checkpoint:
    """The checkpoint of one run, a file that each save replaces. The main process writes it, all processes read it.

    Args:
        folder: the folder for the checkpoints of all runs. Several hosts share it.
        run_hash: what `run_hash` returns. With another one, training starts from the beginning.
    """

    def __init__(self, folder: Path, run_hash: str) -> None:
        self.path, self.lock = folder / f"{run_hash}.checkpoint", folder / f"{run_hash}.lock"
        self.saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the last save is older than `SECONDS`."""
        return time.monotonic() - self.saved_at > SECONDS

    def save(self, state: TrainState, history: list[Metrics]) -> None:
        """Write the state and the history. All processes have to call it.

        Raises:
            OSError: the disk is full. The previous checkpoint is kept.
        """
        tensors = state.tensors()
        if is_main_process():
            save_tensors(self.path, to_arrays(tensors), {"step": state.step, "history": history})
        self.saved_at = time.monotonic()

    def restore(self, state: TrainState) -> list[Metrics]:
        """Set `state` to the checkpoint, and return its history, or [] if there is none. Report a damaged one."""
        step = 0
        if is_main_process() and self.path.exists():
            try:
                step = load_tensors(self.path)[1]["step"]
            except ValueError as error:
                print(f"warning: {self.path} is damaged ({error}); training starts again", file=sys.stderr, flush=True)
        state.step = int(all_reduce(torch.tensor(step, device=state.setup.device)))  # of the main process; 0 elsewhere
        if not state.step:
            return []
        with explain_damage("train", self.path, "the checkpoint that all hosts share"):
            arrays, metadata = load_tensors(self.path)
        state.restore({name: torch.from_numpy(array) for name, array in arrays.items()})
        print(f"resuming after step {state.step:,} of {state.total_steps:,} from {self.path}", flush=True)
        history: list[Metrics] = metadata["history"]
        return history

    def exclusive(self) -> AbstractContextManager[None]:
        """Wait for another run with the same hash: experiments in copies of the project share this checkpoint."""
        return exclusive_lock(self.lock) if is_main_process() else nullcontext()

    def remove(self) -> None:
        """Delete the checkpoint: the run is done."""
        self.path.unlink(missing_ok=True)
        self.lock.unlink(missing_ok=True)
