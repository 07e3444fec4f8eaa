"""Checkpoints: training that was interrupted goes on from the newest whole one, to the bytes it would have had."""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.data.tensor_file import load_tensors, save_tensors
from src.models.model_file import to_arrays
from src.params import Params
from src.training.loop import State

KEPT = 2  # the newest, and the one before in case that one is damaged


def result_key(params: Params, data: Iterable[Path], facts: dict[str, str | int]) -> str:
    """A name for all that determines the result: parameters, data, the code now imported, the machine's fingerprint."""
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    ours = {name: file for name, file in files.items() if name.split(".")[0] in ("__main__", "src", "stages") and file}
    parts = {
        "model": params.model.model_dump(),
        "train": params.train.model_dump(exclude={"checkpoint_seconds"}),
        "data": [_digest(path) for path in data],
        "code": {name: _digest(Path(file)) for name, file in ours.items()},
        "fingerprint": facts,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def checkpoint_path(folder: Path, state: State) -> Path:
    return folder / f"{state.step:09}.checkpoint"


def save_checkpoint(folder: Path, state: State, history: list[dict[str, Any]]) -> None:
    """Write `state` and the epochs so far, and keep the checkpoint before; an OSError leaves those that there were."""
    numbers = {"step": state.step, "loss_sum": state.loss_sum, "correct": state.correct, "seen": state.seen}
    about = {"state": numbers, "history": history}
    save_tensors(checkpoint_path(folder, state), to_arrays(_tensors(state)), about)
    for path in _newest_first(folder)[KEPT:]:
        path.unlink()


def load_checkpoint(folder: Path, state: State) -> list[dict[str, Any]]:
    """Bring `state`, in place, to the newest checkpoint that is whole; return its epochs, [] where there is none.

    A damaged one is reported on stderr and removed.
    """
    for path in _newest_first(folder):
        try:
            arrays, saved = load_tensors(path)
        except ValueError as error:
            print(f"warning: {path} is damaged ({error}): the one before serves", file=sys.stderr, flush=True)
            path.unlink()  # it would count as the newest, and those to come be removed
            continue
        _fill(state, {name: torch.from_numpy(array) for name, array in arrays.items()})
        for name, number in saved["state"].items():
            setattr(state, name, number)
        history: list[dict[str, Any]] = saved["history"]
        return history
    return []


def remove_checkpoints(folder: Path) -> None:
    """Remove those of a run that is finished; those of other, interrupted runs beside it stay."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # not empty
        folder.parent.rmdir()


def _tensors(state: State) -> dict[str, Tensor]:
    """Weights, running statistics and what the optimisers remember, by names that `_fill` reads."""
    tensors = {f"net/{name}": tensor for name, tensor in state.net.state_dict().items()}
    for number, optimizer in enumerate(state.optimizers):
        for index, remembered in optimizer.state_dict()["state"].items():
            tensors |= {f"{number}/{index}/{name}": value for name, value in remembered.items() if value is not None}
    return tensors


@torch.no_grad()
def _fill(state: State, tensors: dict[str, Tensor]) -> None:
    """Copy into the layout in memory that is there, since another could change the order of sums."""
    own = state.net.state_dict()
    weights = [[weight for group in part.param_groups for weight in group["params"]] for part in state.optimizers]
    for path, tensor in tensors.items():
        where, name, *key = path.split("/")
        if where == "net":
            own[name].copy_(tensor)
        else:
            weight = weights[int(where)][int(name)]
            own_layout = torch.empty_like(weight if tensor.shape == weight.shape else tensor)
            state.optimizers[int(where)].state[weight][key[0]] = own_layout.copy_(tensor)


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.checkpoint"), reverse=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
