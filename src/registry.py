"""The networks that `model.name` can select: those of this project, and the classification networks of torchvision.

torch, torchvision and a network's own module are imported only where needed: checking one of this project's networks
imports none of them.
"""

import difflib
import pkgutil
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

BATCH_NORM_MOMENTUM = 0.1  # at least; the default of torch
Shape = tuple[int, int, int]  # channels, height and width of an image


@dataclass(frozen=True)
class ModelSpec:
    """How to build a network of this project, and what it supports.

    Attributes:
        factory: "module:callable"; called with the number of classes, returns an `nn.Module` that maps normalized
            float32 images [batch, channels, height, width] to logits or log-probabilities [batch, classes].
        image_sizes: accepted heights and widths in pixels.
        channels: accepted numbers of channels.
    """

    factory: str
    image_sizes: tuple[int, ...] = (28,)
    channels: tuple[int, ...] = (1,)


MODELS = {
    "net": ModelSpec("src.models.net:Net"),
    "dash": ModelSpec("src.models.small:Dash"),
    "dash32": ModelSpec("src.models.small:Dash32"),
    "dash64": ModelSpec("src.models.small:Dash64"),
    "conv7": ModelSpec("src.models.small:Conv7"),
    "tiny": ModelSpec("src.models.small:Tiny"),
    "micro": ModelSpec("src.models.small:Micro"),
}


def create_model(name: str, num_classes: int, shape: Shape) -> "nn.Module":
    """Build a network with its default initialization, for images of `shape`.

    A network of torchvision gets gray images repeated to three channels.
    """
    if name in MODELS:
        own: nn.Module = pkgutil.resolve_name(MODELS[name].factory)(num_classes)
        return own
    from torchvision import models

    options: dict[str, Any] = {"num_classes": num_classes}
    if name.startswith("vit_"):
        options["image_size"] = shape[1]
    elif name.startswith("maxvit_"):
        options["input_size"] = shape[1:]
    elif name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    net: nn.Module = models.get_model(name, weights=None, **options)
    for layer in net.modules():  # some average over 100 batches or more, which is too slow for short runs
        if hasattr(layer, "running_mean"):
            layer.momentum = max(layer.momentum, BATCH_NORM_MOMENTUM)
    if shape[0] == 1:
        net.register_forward_pre_hook(lambda _, inputs: (inputs[0].expand(-1, 3, -1, -1),))
    return net


def check_name(name: str) -> str:
    """Return `name` if a network has this name.

    Raises:
        ValueError: there is no such network.
    """
    if name not in MODELS and name not in torchvision_names():
        known = [*MODELS, *torchvision_names()]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known models: {', '.join(known)}"
        raise ValueError(f"unknown model `{name}`; {hint}")
    return name


@cache
def check_network(name: str, shape: Shape, pretrained: bool) -> None:
    """Check that a network exists and can be trained on images of `shape`.

    Raises:
        ValueError: says what does not fit, and which networks do.
    """
    channels, height, side = shape
    images = f"{'gray' if channels == 1 else 'color'} images of {height} x {side} pixels"
    misfit = f"`{name}` does not accept {images}; resnet18 and mobilenet_v3_small do"
    if spec := MODELS.get(name):
        if channels not in spec.channels or height != side or side not in spec.image_sizes:
            raise ValueError(misfit)
        if pretrained:
            raise ValueError(f"`{name}` has no pretrained weights: set model.pretrained to false")
        return
    check_name(name)
    if pretrained and name in ("googlenet", "inception_v3"):
        raise ValueError(f"the pretrained `{name}` needs a normalization that is not supported; use resnet18")
    if pretrained and name.startswith(("vit_", "maxvit_")):  # their position embeddings fit one image size
        size = pretrained_weights(name).meta["min_size"][0]
        if side != size:
            raise ValueError(
                f"the pretrained `{name}` accepts only {size} x {size} pixels: set prepare.image_size to {size}"
            )
    if height != side or not _accepts(name, shape):
        raise ValueError(misfit)


def torchvision_names() -> list[str]:
    """Return the names of torchvision's classification networks."""
    from torchvision import models

    return [str(name) for name in models.list_models(module=models)]


def pretrained_weights(name: str) -> Any:
    """Return torchvision's default weights of a network, a member of its weight enum."""
    from torchvision import models

    return models.get_model_weights(name).DEFAULT


def _accepts(name: str, shape: Shape) -> bool:
    """Return whether a network of torchvision accepts images of `shape`. The meta device computes shapes only."""
    import torch

    if name.startswith("regnet_"):  # cannot be built on the meta device, and accepts any size
        return True
    try:
        with torch.device("meta"), torch.no_grad():
            create_model(name, 2, shape).eval()(torch.empty(2, *shape))
    except (AssertionError, RuntimeError, ValueError, ZeroDivisionError):
        return False
    return True
