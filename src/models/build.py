"""Build a network with the weights that training starts from."""

import hashlib
import shlex
import socket
from http.client import HTTPException
from pathlib import Path

import torch
from torch import nn

from src.models.registry import NETWORKS, Shape, create_model, find_head
from src.params.model import ModelParams
from src.runtime.errors import PipelineError

READ_TIMEOUT = 15  # seconds without a byte from the server
# two need another normalization, the files of densenet have layer names of an older torchvision
NOT_PRETRAINED = ("googlenet", "inception_v3", "densenet")


def build_network(settings: ModelParams, num_classes: int, shape: Shape, seed: int) -> nn.Module:
    """Return the network of `model.name` with random or pretrained weights, after a run on two images of zeros.

    Raises:
        PipelineError: there is no such network, it does not accept images of `shape`, or there are no such weights.
    """
    torch.manual_seed(seed)
    try:
        net = create_model(settings.name, num_classes, shape)
        with torch.no_grad():
            net.eval()(torch.zeros(2, *shape))
    except (AssertionError, RuntimeError, ValueError, ZeroDivisionError) as error:
        raise PipelineError(
            f"model.name is {settings.name}, which does not accept images of shape {shape} (channels, height, width):\n"
            f"{error}",
            "dvc exp run -S model.name=resnet18   # or mobilenet_v3_small: they accept all sizes",
        ) from None
    if settings.pretrained:
        load_pretrained(net, settings.name, shape)
    return net.train()


def load_pretrained(net: nn.Module, name: str, shape: Shape) -> None:
    """Load torchvision's default weights into `net`. A head with a different number of classes stays random.

    The SHA-256 of the file, downloaded or cached, must start with the digits in its name. It is read with
    `weights_only=True`, which runs no code of the file.

    Raises:
        PipelineError: there are no such weights for these images, or the file is damaged, or neither on this machine
            nor downloadable.
    """
    if name in NETWORKS or name.startswith(NOT_PRETRAINED):
        raise PipelineError(f"there are no pretrained weights for {name}", "dvc exp run -S model.pretrained=false")
    from torchvision import models  # takes two seconds

    weights = models.get_model_weights(name).DEFAULT
    # their position embeddings fit one image size
    if name.startswith(("vit_", "maxvit_")) and shape[1] != (size := weights.meta["min_size"][0]):
        raise PipelineError(
            f"the pretrained {name} accepts only {size} x {size} pixels", f"dvc exp run -S prepare.image_size={size}"
        )
    file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    if file.exists():  # torch checks the hash of downloads only
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        if not digest.startswith(file.stem.rpartition("-")[2]):
            raise PipelineError(
                f"{file} is damaged: its SHA-256 is {digest}", f"rm {shlex.quote(str(file))}   # then: dvc repro"
            )
    socket.setdefaulttimeout(READ_TIMEOUT)  # torch would wait forever for a server that stops sending
    try:
        tensors = weights.get_state_dict(check_hash=True, weights_only=True, map_location="cpu")
    except (HTTPException, OSError, RuntimeError) as error:
        raise PipelineError(
            f"the pretrained weights of {name} cannot be downloaded from {weights.url}: {error}",
            f"cp /path/to/{file.name} {shlex.quote(str(file))}   # downloaded elsewhere; then: dvc repro",
        ) from None
    own, head = net.state_dict(), f"{find_head(net)}."
    for key in [key for key in tensors if key.startswith(head) and tensors[key].shape != own[key].shape]:
        tensors[key] = own[key]  # in place: a new dict would lose tensors._metadata, which older files need
    net.load_state_dict(tensors)
