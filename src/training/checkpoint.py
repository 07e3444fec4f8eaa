"""Checkpoints: an interrupted training run resumes from the latest intact one."""

import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from src.data.tensor_file import load_tensors, read_digest, save_tensors
from src.models.model_file import to_arrays
from src.params import Params
from src.runtime.files import exclusive_lock
from src.training.distributed import all_reduce_sum, broadcast_bytes, is_main_process
from src.training.state import HistoryRow, TrainState

KEEP_LAST = 2  # the latest, and the one before in case the latest is damaged


def describe_run(params: Params, data: Iterable[Path]) -> dict[str, Any]:
    """Return the parameters that determine the result of training, and the SHA-256 of each file in `data`."""
    return {
        "model": params.model.model_dump(),
        "train": params.train.model_dump(mode="json", exclude={"checkpoint_seconds"}),
        "data": {path.stem: read_digest(path) for path in data},
    }


def run_hash(run: Mapping[str, Any]) -> str:
    """Return a hash of what `describe_run` returns and of the imported code.

    Together with the fingerprint, they determine the result.
    """
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    code = {name: file for name, file in files.items() if file and name.split(".")[0] in ("__main__", "src", "stages")}
    parts = {**run, "code": {name: hashlib.sha256(Path(file).read_bytes()).hexdigest() for name, file in code.items()}}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


class Checkpoints:
    """The checkpoints of one run, in a folder of their own. The main process writes them.

    Args:
        root: the folder for the checkpoints of all runs.
        run_hash: what the function `run_hash` returns.
        fingerprint: of the computation. With a different hash or fingerprint, training starts from the beginning.
        every_seconds: how often `is_due` returns true.
    """

    def __init__(self, root: Path, run_hash: str, fingerprint: Mapping[str, str | int], every_seconds: float) -> None:
        suffix = "-".join(str(value) for value in fingerprint.values())
        name = f"{run_hash}-{suffix.replace(' ', '-')}"
        self.folder, self.lock = root / name, root / f"{name}.lock"
        self.every_seconds = every_seconds
        self.saved_at = time.monotonic()

    def is_due(self) -> bool:
        """Return whether the last checkpoint is older than `every_seconds`."""
        return time.monotonic() - self.saved_at > self.every_seconds

    def save(self, state: TrainState, history: list[HistoryRow]) -> None:
        """Write the state and the history, and keep the previous checkpoint. All processes have to call it.

        Raises:
            OSError: the disk is full.
        """
        self.saved_at = time.monotonic()
        tensors = _tensors(state) | {"sums": all_reduce_sum(state.sums)}
        if is_main_process():
            metadata = {"step": state.step, "seconds": state.seconds, "history": history}
            save_tensors(self.folder / f"{state.step:09}.checkpoint", to_arrays(tensors), metadata)
            for path in self._latest_first()[KEEP_LAST:]:
                path.unlink()

    def restore(self, state: TrainState) -> list[HistoryRow]:
        """Set `state` to the latest intact checkpoint of the main process, and return its history, or [].

        Report a damaged checkpoint on stderr and delete it.
        """
        content = b""
        for path in self._latest_first() if is_main_process() else ():
            try:
                load_tensors(path)
            except ValueError as error:
                print(f"warning: {path} is damaged ({error}); trying the one before", file=sys.stderr, flush=True)
                path.unlink()  # it would count as the latest
            else:
                content = path.read_bytes()
                break
        content = broadcast_bytes(content, state.compute.device)
        if not content:
            return []
        with tempfile.NamedTemporaryFile() as copy:  # workers on other hosts have no file
            copy.write(content)
            copy.flush()
            arrays, metadata = load_tensors(Path(copy.name))
        _restore_tensors(state, {name: torch.from_numpy(array) for name, array in arrays.items()})
        state.seconds = metadata["seconds"]
        state.set_step(metadata["step"])
        if is_main_process():
            print(f"resuming after step {state.step:,} of {state.steps.total:,} from {self.folder}", flush=True)
        history: list[HistoryRow] = metadata["history"]
        return history

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Wait for another run with the same hash: experiments in copies of the project share these checkpoints."""
        with exclusive_lock(self.lock) if is_main_process() else nullcontext():
            yield

    def remove(self) -> None:
        """Delete the checkpoints of this run, and keep those of other runs."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.lock.unlink(missing_ok=True)

    def _latest_first(self) -> list[Path]:
        return sorted(self.folder.glob("*.checkpoint"), reverse=True)


def _tensors(state: TrainState) -> dict[str, Tensor]:
    """Return the tensors of network and optimizers by key.

    Keys are `net/<name>` for weights and running statistics, and `<optimizer>/<parameter>/<name>` for optimizer states,
    for example `0/3/momentum`.
    """
    tensors = {f"net/{name}": tensor for name, tensor in state.net.state_dict().items()}
    for number, optimizer in enumerate(state.optimizers):
        for index, values in optimizer.state_dict()["state"].items():
            tensors |= {f"{number}/{index}/{name}": value for name, value in values.items() if value is not None}
    return tensors


@torch.no_grad()
def _restore_tensors(state: TrainState, tensors: dict[str, Tensor]) -> None:
    """Copy the tensors of a checkpoint into `state`.

    The file holds contiguous tensors, and `Optimizer.load_state_dict` would keep that layout. Training uses
    channels_last, and a different layout may change the last bits.
    """
    sums = tensors.pop("sums")
    state.sums.copy_(sums if is_main_process() else torch.zeros_like(sums))  # they are sums over all processes
    net_state = state.net.state_dict()
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
