"""The style of all figures, and grids of images."""

import math
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
DPI = 120  # pixels per inch

# Grids of images, in inches
WIDTH = 9
MARGIN = 0.1  # around the grid and between images
TITLE_LINE, CAPTION_LINE = 0.25, 0.17  # heights of one line

MAX_CAPTION = 24  # characters of a line; five such captions fit next to each other
ROW_CHARACTERS = 5 * (MAX_CAPTION + 2)  # in the captions of one row, with two spaces after each

STYLE: Any = {  # matplotlib types the keys as literals
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine has it
    "font.size": 11,
    "text.parse_math": False,  # a $ in a name is a $
    "axes.edgecolor": "#B9BEC6",
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E7E9ED",
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
    """Draw images with their class names."""
    draw_image_grid(path, images, names, title, columns=10)


def draw_image_grid(path: Path, images: np.ndarray, captions: Sequence[str], title: str, columns: int) -> None:
    """Draw images in rows of at most `columns`, with captions above them.

    Args:
        images: pixels from 0 to 255 [n, height, width] or [n, height, width, 3].
        captions: one per image. Long lines are shortened.
        columns: the maximum number. Few or large images and long captions reduce it to five.
    """
    texts = [[shorten(line) for line in caption.split("\n")] for caption in captions]
    longest = max((len(line) for lines in texts for line in lines), default=0)
    fitting = min(len(images), WIDTH * DPI // images.shape[2], ROW_CHARACTERS // (longest + 2))
    columns = min(columns, max(5, fitting))
    heading = textwrap.wrap(title)

    distance = (WIDTH - MARGIN) / columns  # from one image to the next
    side = distance - MARGIN
    caption_height = CAPTION_LINE * max(map(len, texts), default=0)
    row_height = caption_height + side + MARGIN
    grid_top = 2 * MARGIN + TITLE_LINE * len(heading)
    height = grid_top + math.ceil(len(images) / columns) * row_height
    with saved_figure(path, WIDTH, height, layout=None) as figure:
        figure.suptitle("\n".join(heading), x=MARGIN / WIDTH, y=1 - MARGIN / height, ha="left")
        # one axis for all images, in inches from the top left corner, is ten times faster than one per image
        axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(height, 0))
        axis.axis("off")
        for index, (image, lines) in enumerate(zip(images, texts, strict=True)):
            row, column = divmod(index, columns)
            left = MARGIN + column * distance
            top = grid_top + row * row_height + caption_height
            extent = (left, left + side, top + side, top)
            axis.imshow(image.astype(np.uint8), cmap="gray", vmin=0, vmax=255, extent=extent, aspect="auto")
            axis.text(left + side / 2, top - MARGIN / 4, "\n".join(lines), fontsize=9, ha="center", va="bottom")


def shorten(text: str) -> str:
    """Replace the middle of a text over `MAX_CAPTION` with "…". Keep more of the end, where file names differ."""
    return text if len(text) <= MAX_CAPTION else f"{text[:8]}…{text[9 - MAX_CAPTION :]}"
