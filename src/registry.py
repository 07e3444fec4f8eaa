"""The networks that `model.name` can select. A network is imported when it is built."""

import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ModelSpec:
    """How to build a network, and what it supports.

    Attributes:
        factory: "module:callable"; called with the number of classes, returns an `nn.Module` that maps normalized
            float32 images [batch, channels, height, width] to logits or log-probabilities [batch, classes].
        head: dotted name of the last layer. Muon leaves it to AdamW.
        image_sizes: accepted heights and widths in pixels.
        channels: accepted numbers of channels.
        batch_norm: whether `train.batch_norm` may add batch norm, by the network's own NORM_AFTER table.
        progressive_resizing: whether the network also accepts the smaller images of `train.low_res_fraction`.
    """

    factory: str
    head: str
    image_sizes: tuple[int, ...] = (28,)
    channels: tuple[int, ...] = (1,)
    batch_norm: bool = False
    progressive_resizing: bool = False

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Return whether the network reads images of `shape` (channels, height, width)."""
        channels, height, width = shape
        return channels in self.channels and height == width and height in self.image_sizes


MODELS = {
    "net": ModelSpec("src.models.net:Net", head="fc2", batch_norm=True, progressive_resizing=True),
    "dash": ModelSpec("src.models.small:Dash", head="head"),
    "tiny": ModelSpec("src.models.small:Tiny", head="head"),
}


def create_model(name: str, classes: int) -> "nn.Module":
    """Build the network `name` of `MODELS` with torch's default initialization."""
    net: nn.Module = pkgutil.resolve_name(MODELS[name].factory)(classes)
    return net
