"""The style of all figures, and grids of images."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from src.runtime.files import write_bytes

# Colors by Okabe and Ito, which color-blind people can distinguish
BLUE, VERMILION = "#0072B2", "#D55E00"
GRAY, TEXT_GRAY = "#8A8F98", "#57606A"
GRID_CHARACTERS = 105  # caption characters that fit into the width of a grid
STYLE: Any = {  # matplotlib types the keys as literals
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine has it
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
    "xtick.color": TEXT_GRAY,
    "ytick.color": TEXT_GRAY,
    "lines.linewidth": 2,
    "figure.titlesize": 14,
    "figure.titleweight": "bold",
}


@contextmanager
def saved_figure(path: Path, width: float, height: float, dpi: int = 120) -> Iterator[Figure]:
    """Yield a figure of `width` x `height` inches, and save it as PNG at the end. Equal figures have equal bytes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        content = BytesIO()
        figure.savefig(content, format="png", dpi=dpi, metadata={"Software": None})
    write_bytes(path, content.getvalue())


def plot_sample_training_images(path: Path, images: np.ndarray, names: Sequence[str], title: str) -> None:
    """Draw images [n, height, width] with their class names: the notebook's function of this name."""
    draw_image_grid(path, images, names, title, columns=10)


def draw_image_grid(
    path: Path, images: np.ndarray, captions: Sequence[str], title: str, columns: int, dpi: int = 120
) -> None:
    """Draw images [n, height, width] in white on black, in rows of at most `columns`, with captions above them."""
    lines = [caption.split("\n") for caption in captions] or [[""]]
    longest = max(len(line) for caption in lines for line in caption)
    columns = max(1, min(columns, len(images), GRID_CHARACTERS // (longest + 2)))
    rows = max(1, -(-len(images) // columns))
    row_height = 8.6 / max(columns, 5) + 0.21 * max(map(len, lines))
    with saved_figure(path, 9, 0.6 + rows * row_height, dpi) as figure:
        figure.suptitle(title, x=0.01, ha="left")
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for axis in axes:
            axis.axis("off")
        for axis, image, caption in zip(axes, images, captions, strict=False):
            axis.imshow(image, cmap="gray", interpolation="nearest")
            axis.set_title(caption, fontsize=10, fontweight="normal", loc="center", pad=3)
        if not len(images):
            figure.supxlabel("none", fontsize=10, color=TEXT_GRAY)
