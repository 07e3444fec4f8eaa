"""The style of all figures, and grids of images."""

import textwrap
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
WIDTH, DPI = 9, 120  # of a grid, in inches; pixels per inch
# Numbers of characters: captions in one row of a grid, one line of a title, one line of a caption
GRID_CHARACTERS, TITLE_CHARACTERS, MAX_CAPTION = 100, 72, 24
STYLE: Any = {  # matplotlib types the keys as literals
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine has it
    "font.size": 11,
    "text.parse_math": False,  # a $ in a name is a $
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
def saved_figure(path: Path, width: float, height: float, layout: Any = "constrained") -> Iterator[Figure]:
    """Yield a figure of `width` x `height` inches, and save it as PNG at the end. Equal figures have equal bytes."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout=layout)
        yield figure
        content = BytesIO()
        figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    write_bytes(path, content.getvalue())


def plot_sample_training_images(path: Path, images: np.ndarray, names: Sequence[str], title: str) -> None:
    """Draw images with their class names: the notebook's function of this name."""
    draw_image_grid(path, images, names, title, columns=10)


def draw_image_grid(path: Path, images: np.ndarray, captions: Sequence[str], title: str, columns: int) -> None:
    """Draw images in rows of at most `columns`, with captions above them.

    Args:
        path: the PNG file.
        images: pixels from 0 to 255 [n, height, width] or [n, height, width, 3].
        captions: one per image. Long lines are shortened.
        title: of the figure.
        columns: the maximum number. Large images can reduce it to five, long captions to three.
    """
    lines = [[shorten(line, MAX_CAPTION) for line in caption.split("\n")] for caption in captions] or [[""]]
    longest = max(len(line) for caption in lines for line in caption)
    columns = min(columns, max(5, int(WIDTH * DPI) // images.shape[2]))
    columns = max(1, min(columns, len(images), GRID_CHARACTERS // (longest + 2)))
    rows = max(1, -(-len(images) // columns))
    distance = (WIDTH - 0.1) / max(columns, min(5, GRID_CHARACTERS // (longest + 2)))  # inches, of two columns
    cell, caption_height = min(distance, (WIDTH - 0.1) / 5), 0.21 * max(map(len, lines))
    heading = textwrap.wrap(title, TITLE_CHARACTERS)
    top = 0.2 + 0.25 * len(heading)
    height = top + rows * (0.966 * cell + caption_height)
    with saved_figure(path, WIDTH, height, layout=None) as figure:
        figure.suptitle("\n".join(heading), x=0.01, y=1 - 0.1 / height, ha="left")
        axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))  # one axis for all: ten times faster
        axis.axis("off")
        for index, (image, caption) in enumerate(zip(images, lines, strict=False)):
            row, column = divmod(index, columns)
            left = 0.1 + (column + 0.5) * distance - cell / 2
            bottom = top + (row + 1) * (0.966 * cell + caption_height) - 0.1
            right, above = left + 0.9 * cell, bottom - 0.9 * cell
            extent = (left, right, bottom, above)
            axis.imshow(image.astype(np.uint8), cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
            axis.text((left + right) / 2, above - 0.03, "\n".join(caption), fontsize=10, ha="center", va="bottom")
        if not len(images):
            axis.text(0.1, height - 0.1, "none", fontsize=10, color=TEXT_GRAY)


def shorten(text: str, length: int) -> str:
    """Replace the middle of a text longer than `length` with "…". Keep more of the end, where file names differ."""
    return text if len(text) <= length else f"{text[: length // 3]}…{text[len(text) + 1 + length // 3 - length :]}"


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Convert float [n, channels, height, width] from 0 to 1 to uint8 [n, height, width] or [n, height, width, 3]."""
    pixels = (images.clip(0, 1) * 255).round().astype(np.uint8)
    return pixels[:, 0] if pixels.shape[1] == 1 else np.moveaxis(pixels, 1, -1)
