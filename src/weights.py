"""The model file: weights in safetensors (same weights, same bytes, no pickle) and what is needed to use them."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from src.errors import PipelineError
from src.files import write_bytes
from src.params import Network, Normalize, Section


class Description(Section):
    """What is needed to use the weights, and what they were computed with."""

    network: Network
    classes: tuple[str, ...]
    normalize: Normalize
    fingerprint: dict[str, str | int]


def save_model(path: Path, net: nn.Module, description: Description) -> None:
    """Write the weights, with `description` as JSON under the one metadata key "model"."""
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in net.state_dict().items()}
    write_bytes(path, save(tensors, metadata={"model": description.model_dump_json()}))


def read_description(path: Path) -> Description:
    """What `save_model` was told; raises PipelineError when the file is missing, damaged or another program's."""
    try:
        with safe_open(path, framework="pt") as file:
            return Description.model_validate_json(file.metadata()["model"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise _not_a_model(path, error) from None


def load_weights(path: Path, net: nn.Module) -> None:
    """Fill `net`; raises PipelineError unless the file holds exactly its tensors, by name, shape and dtype."""
    try:
        with safe_open(path, framework="pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (OSError, SafetensorError) as error:
        raise _not_a_model(path, error) from None
    found, expected = (
        {name: (list(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        for tensors in (weights, net.state_dict())
    )
    wrong = [name for name in sorted({*found, *expected}) if found.get(name) != expected.get(name)]
    if wrong:
        name = wrong[0]
        raise _not_a_model(path, ValueError(f"{name} is {found.get(name)}, expected {expected.get(name)}"))
    if not all(tensor.isfinite().all() for tensor in weights.values()):
        raise _not_a_model(path, ValueError("weights that are NaN or infinite"))
    net.load_state_dict(weights)


def _not_a_model(path: Path, error: Exception) -> PipelineError:
    reason = " ".join(str(error).split())  # one line, whatever the library says
    found = "no such file" if isinstance(error, FileNotFoundError) else f"{type(error).__name__}: {reason}"
    return PipelineError(
        f"{path.name} is not a model of this pipeline",
        found=found,
        expected="the weights that the stage train writes",
        where=path,
        run="dvc repro --force --single-item train",
    )
