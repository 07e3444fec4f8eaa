"""Build a network with the weights that training starts from."""

import hashlib
import re
import shlex
import socket
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from src.models.registry import NETWORKS, Shape, create_model, find_head
from src.params.model import ModelParams
from src.runtime.errors import PipelineError

READ_TIMEOUT = 15  # seconds without a byte from the server
OFF = "dvc exp run -S model.pretrained=false"


def build_network(settings: ModelParams, num_classes: int, shape: Shape, seed: int) -> nn.Module:
    """Return the network of `model.name` with random or pretrained weights. Raises PipelineError."""
    torch.manual_seed(seed)
    net = create_model(settings.name, num_classes, shape)
    if settings.pretrained:
        load_pretrained(net, settings.name, shape)
    return net


def load_pretrained(net: nn.Module, name: str, shape: Shape) -> None:
    """Load torchvision's default weights into `net`. A head with a different number of classes stays random.

    The SHA-256 of the file, downloaded or cached, must start with the digits in its name. It is read with
    `weights_only=True`, which runs no code of the file.

    Raises:
        PipelineError: there are no such weights for these images, or the file is damaged, contains more than tensors,
            or is neither on this machine nor downloadable.
    """
    if name in NETWORKS or name in ("googlenet", "inception_v3"):  # those two need another normalization
        raise PipelineError(f"there are no pretrained weights for {name}", OFF)
    from torchvision import models  # takes two seconds

    weights = models.get_model_weights(name).DEFAULT
    # their position embeddings fit one image size
    if name.startswith(("vit_", "maxvit_")) and shape[1] != (size := weights.meta["min_size"][0]):
        raise PipelineError(
            f"the pretrained {name} accepts only {size} x {size} pixels", f"dvc exp run -S prepare.image_size={size}"
        )
    file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    if file.exists():  # torch checks the hash of downloads only
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if not digest.startswith(file.stem.rpartition("-")[2]):
            raise PipelineError(
                f"{file} is damaged: its SHA-256 is {digest}", f"rm {shlex.quote(str(file))}   # then: dvc repro"
            )
    socket.setdefaulttimeout(READ_TIMEOUT)  # torch would wait forever for a server that stops sending
    try:
        tensors = weights.get_state_dict(check_hash=True, weights_only=True, map_location="cpu")
    except UnpicklingError:
        raise PipelineError(
            f"{file} contains more than tensors and was not loaded", f"rm {shlex.quote(str(file))}"
        ) from None
    except (HTTPException, OSError, RuntimeError) as error:
        raise PipelineError(
            f"the pretrained weights of {name} cannot be downloaded from {weights.url}: {error}",
            f"cp /path/to/{file.name} {shlex.quote(str(file))}   # downloaded elsewhere; then: dvc repro",
        ) from None
    if name.startswith("densenet"):  # these files have the layer names of an older torchvision
        tensors = {re.sub(r"\.(norm|conv)\.(\d)\.", r".\1\2.", key): tensor for key, tensor in tensors.items()}
    own, head = net.state_dict(), f"{find_head(net)}."
    for key in [key for key in tensors if key.startswith(head) and tensors[key].shape != own[key].shape]:
        del tensors[key]  # in place: a new dict would lose tensors._metadata, which older files need
    missing = [key for key in net.load_state_dict(tensors, strict=False).missing_keys if not key.startswith(head)]
    if missing:
        raise PipelineError(f"{file} has no weights for {', '.join(missing[:3])}", OFF)
