"""One style for every picture, and grids of images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from src.runtime.files import write_bytes

# Okabe and Ito's colours, told apart by colour-blind people too
BLUE, VERMILION, GREY = "#0072B2", "#D55E00", "#8A8F98"
CHARACTERS = 105  # of a caption that fit side by side into the width of a grid
STYLE: Any = {  # matplotlib types the keys as literals
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 11,
    "text.color": "#24292F",
    "axes.edgecolor": "#B9BEC6",
    "axes.labelcolor": "#24292F",
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E7E9ED",
    "xtick.color": "#57606A",
    "ytick.color": "#57606A",
    "lines.linewidth": 2,
    "figure.titlesize": 14,
    "figure.titleweight": "bold",
}


@contextmanager
def figure(path: Path, width: float, height: float, dpi: int = 120) -> Iterator[Figure]:
    """A figure of `width` x `height` inches, written to `path` as PNG at the end: same picture, same bytes."""
    with mpl.rc_context(STYLE):
        drawing = Figure(figsize=(width, height), layout="constrained")
        yield drawing
        content = BytesIO()
        drawing.savefig(content, format="png", dpi=dpi, metadata={"Software": None})
    write_bytes(path, content.getvalue())


def plot_sample_training_images(path: Path, images: np.ndarray, names: Sequence[str], title: str) -> None:
    """A grid of images [n, height, width] with their class names."""
    draw_grid(path, images, names, title, columns=10)


def draw_grid(
    path: Path, images: np.ndarray, captions: Sequence[str], title: str, columns: int, dpi: int = 120
) -> None:
    """Images [n, height, width] in rows of `columns`, white on black, each under its caption."""
    longest = max((len(line) for caption in captions for line in caption.split("\n")), default=1)
    columns = max(1, min(columns, len(images), CHARACTERS // (longest + 2)))
    rows = max(1, -(-len(images) // columns))
    lines = max((caption.count("\n") + 1 for caption in captions), default=1)
    cell = 8.6 / max(columns, 5)
    with figure(path, 9, 0.6 + rows * (cell + 0.21 * lines), dpi) as drawing:
        drawing.suptitle(title, x=0.01, ha="left")
        axes = drawing.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.axis("off")
        for axis, image, caption in zip(axes, images, captions, strict=False):
            axis.imshow(image, cmap="gray", interpolation="nearest")
            axis.set_title(caption, fontsize=10, fontweight="normal", loc="center", pad=3)
        if not len(images):
            drawing.supxlabel("none", fontsize=10, color="#57606A")
