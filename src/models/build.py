"""Build a network for training: random or pretrained weights."""

import hashlib
import re
import shlex
import socket
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn

from src.params import Params
from src.registry import MODELS, Shape, create_model, pretrained_weights
from src.runtime.errors import PipelineError

READ_TIMEOUT = 15  # seconds without a byte from the server of pretrained weights


def build_network(params: Params, num_classes: int, shape: Shape) -> nn.Module:
    """Return the network of `model.name` with the weights that training starts from.

    Raises:
        PipelineError: pretrained weights are neither on this machine nor downloadable.
    """
    name, settings = params.model.name, params.train
    torch.manual_seed(settings.seed)
    net = create_model(name, num_classes, shape)
    if params.model.pretrained:
        load_pretrained(net, name)
    elif name in MODELS:  # the networks of torchvision initialize themselves
        init_weights(net, settings.initialization, settings.seed)
    return net


def init_weights(net: nn.Module, scheme: str, seed: int) -> None:
    """Sample new weights for all convolutions and linear layers.

    Args:
        net: the network, changed in place.
        scheme: "pytorch" for the layers' defaults, or "kaiming" for normal weights and zero biases
            (He et al., Delving Deep into Rectifiers, 2015).
        seed: seed of torch's global generator.
    """
    torch.manual_seed(seed)
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.reset_parameters()
            if scheme == "kaiming":
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def load_pretrained(net: nn.Module, name: str) -> None:
    """Load torchvision's default weights into `net`. A head with a different number of classes stays random.

    The SHA-256 of the file, downloaded or cached, must start with the digits in its name. It is read with
    `weights_only=True`, which runs no code of the file.

    Raises:
        PipelineError: the file is damaged, contains more than tensors, or is neither on this machine nor downloadable.
    """
    weights = pretrained_weights(name)
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
        raise PipelineError(
            f"{file} has no weights for {', '.join(missing[:3])}", "dvc exp run -S model.pretrained=false"
        )


def find_head(net: nn.Module) -> str:
    """Return the dotted name of the layer that computes the output: the last linear layer or convolution."""
    *_, head = (name for name, layer in net.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d))
    return str(head)
