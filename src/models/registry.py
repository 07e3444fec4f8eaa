"""The networks that `model.name` can select: those in `networks/`, and the classification networks of torchvision."""

import difflib
import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

from torch import nn

from src.models import networks
from src.runtime.errors import PipelineError

BATCH_NORM_MOMENTUM = 0.1  # at least; the default of torch
Shape = tuple[int, int, int]  # channels, height and width of an image
Factory = Callable[[int, Shape], nn.Module]

NETWORKS: dict[str, Factory] = {}


def register(name: str) -> Callable[[Factory], Factory]:
    """Make a class or function available as `model.name`.

    It is called with the number of classes and the shape of an image, and returns an `nn.Module` that maps normalized
    float32 images [batch, channels, height, width] to logits or log-probabilities [batch, classes].
    """

    def add(factory: Factory) -> Factory:
        NETWORKS[name] = factory
        return factory

    return add


def create_model(name: str, num_classes: int, shape: Shape) -> nn.Module:
    """Build a network with its default initialization, for images of `shape`.

    A network of torchvision gets gray images repeated to three channels.

    Raises:
        PipelineError: there is no such network.
    """
    if name in NETWORKS:
        return NETWORKS[name](num_classes, shape)
    from torchvision import models  # takes two seconds

    known = models.list_models(module=models)
    if name not in known:
        near = difflib.get_close_matches(name, [*NETWORKS, *known], n=1) or ["resnet18"]
        message = f"model.name is {name}, expected {', '.join(NETWORKS)} or a classification network of torchvision"
        raise PipelineError(message, f"dvc exp run -S model.name={near[0]}")
    options: dict[str, Any] = {"num_classes": num_classes}
    if name.startswith("vit_"):
        options["image_size"] = shape[1]
    elif name.startswith("maxvit_"):
        options["input_size"] = shape[1:]
    elif name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    net: nn.Module = models.get_model(name, weights=None, **options)
    for layer in net.modules():  # some average over 100 batches or more, which is too slow for short runs
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = max(layer.momentum or 0, BATCH_NORM_MOMENTUM)
    if shape[0] == 1:
        net.register_forward_pre_hook(lambda _, inputs: (inputs[0].expand(-1, 3, -1, -1),))
    return net


def find_head(net: nn.Module) -> str:
    """Return the dotted name of the layer that computes the output: the last linear layer or convolution."""
    *_, head = (name for name, layer in net.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d))
    return str(head)


for module in pkgutil.iter_modules(networks.__path__):
    importlib.import_module(f"{networks.__name__}.{module.name}")
