"""Checkpoints: an interrupted training run resumes from the last one."""

import hashlib
import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from src.data.dataset import split_path
from src.data.tensor_file import load_tensors, read_digest, save_tensors
from src.models.model_file import to_arrays
from src.params.base import Section
from src.runtime.files import exclusive_lock
from src.training.distributed import all_reduce_max, all_reduce_sum, broadcast_int, is_main_process

if TYPE_CHECKING:
    from src.training.loop import Metrics, TrainState

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
    """Return a hash of parameters, data, code and environment. Equal hashes give equal weights.

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

    def save(self, state: "TrainState", history: "list[Metrics]") -> None:
        """Write the state and the history. All processes have to call it.

        Raises:
            OSError: the disk is full. The previous checkpoint is kept.
        """
        tensors = _tensors(state) | {
            "running_metrics": all_reduce_sum(state.running_metrics),
            "margins": all_reduce_sum(state.margins.sums),
            "rivals": all_reduce_max(state.margins.rivals),
        }
        if is_main_process():
            save_tensors(self.path, to_arrays(tensors), {"step": state.step, "history": history})
        self.saved_at = time.monotonic()

    def restore(self, state: "TrainState") -> "list[Metrics]":
        """Set `state` to the checkpoint, and return its history, or [] if there is none. Report a damaged one."""
        step = 0
        if is_main_process() and self.path.exists():
            try:
                step = load_tensors(self.path)[1]["step"]
            except ValueError as error:
                print(f"warning: {self.path} is damaged ({error}); training starts again", file=sys.stderr, flush=True)
        state.step = broadcast_int(step, state.setup.device)
        if not state.step:
            return []
        arrays, metadata = load_tensors(self.path)
        _restore_tensors(state, {name: torch.from_numpy(array) for name, array in arrays.items()})
        if is_main_process():
            print(f"resuming after step {state.step:,} of {state.total_steps:,} from {self.path}", flush=True)
        history: list[Metrics] = metadata["history"]
        return history

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait for another run with the same hash: experiments in copies of the project share this checkpoint."""
        with exclusive_lock(self.lock) if is_main_process() else nullcontext():
            yield

    def remove(self) -> None:
        """Delete the checkpoint: the run is done."""
        self.path.unlink(missing_ok=True)
        self.lock.unlink(missing_ok=True)


def _tensors(state: "TrainState") -> dict[str, Tensor]:
    """Return the tensors of network and optimizers by key.

    Keys are `net/<name>` for weights and running statistics, and `<optimizer>/<parameter>/<name>` for optimizer states,
    for example `0/3/momentum`.
    """
    tensors = {f"net/{name}": tensor for name, tensor in state.classifier.net.state_dict().items()}
    for number, optimizer in enumerate(state.optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"{number}/{index}/{name}": value for name, value in values.items() if value is not None}
    return tensors


@torch.no_grad()
def _restore_tensors(state: "TrainState", tensors: dict[str, Tensor]) -> None:
    """Copy the tensors of a checkpoint into `state`.

    The file holds contiguous tensors, and `Optimizer.load_state_dict` would keep that layout. Training uses
    channels_last, and a different layout may change the last bits.
    """
    values = {"running_metrics": state.running_metrics, "margins": state.margins.sums, "rivals": state.margins.rivals}
    for name, value in values.items():
        saved = tensors.pop(name)
        if is_main_process():  # rank 0 holds those of all processes; the others start at 0
            value.copy_(saved)
    net_state = state.classifier.net.state_dict()
    for key, tensor in tensors.items():
        prefix, rest = key.split("/", 1)
        if prefix == "net":
            net_state[rest].copy_(tensor)
        else:
            optimizer, (index, name) = state.optimizers[int(prefix)], rest.split("/")
            weight = [weight for group in optimizer.param_groups for weight in group["params"]][int(index)]
            # buffers like the momentum get the layout of their weight; AdamW's step counter has a different shape
            like = weight if tensor.shape == weight.shape else tensor
            # fused AdamW reads the step counter on the device of the weight
            optimizer.state[weight][name] = torch.empty_like(like, device=weight.device).copy_(tensor)
