"""Figures and grids of images."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from src.reporting.drawing import DPI, draw_image_grid, saved_figure


def images(count: int, side: int = 28) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side), np.uint8)


def size(path: Path) -> tuple[int, int]:
    """Width and height."""
    with Image.open(path) as image:
        return image.size


def test_equal_figures_have_the_requested_size_and_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        with saved_figure(tmp_path / name, 4, 3) as figure:
            figure.subplots().plot([0, 1], [1, 0])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert size(tmp_path / "a.png") == (480, 360)


def test_figure_that_fails_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no data"), saved_figure(tmp_path / "a.png", 4, 3):
        raise ValueError("no data")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("count", "side", "caption", "title", "height"),
    [
        (10, 28, "x", "One row of ten", 181),
        (11, 28, "x", "Two rows", 308),
        (10, 28, "x", "A title of two lines " * 6, 211),
        (10, 28, "x" * 20, "Five captions of 20 characters in a row", 522),
        (10, 224, "x", "Five images of 224 pixels in a row", 522),
    ],
)
def test_grid_has_as_many_columns_as_images_and_captions_allow(
    tmp_path: Path, count: int, side: int, caption: str, title: str, height: int
) -> None:
    draw_image_grid(tmp_path / "a.png", images(count, side), [caption] * count, title, columns=10)
    assert size(tmp_path / "a.png") == (1080, height)


def test_long_captions_do_not_overlap(tmp_path: Path, figures: list[Figure]) -> None:
    """Captions of 24 wide characters."""
    draw_image_grid(tmp_path / "a.png", images(3), ["mimetypes → applications"] * 3, "Long", columns=6)
    first, second, third = (text.get_window_extent(dpi=DPI) for text in figures[0].axes[0].texts)
    assert 0 < first.x0 < first.x1 < second.x0 < second.x1 < third.x0


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (100, 100, 100), (100, 0, 0)])
def test_images_are_drawn_in_their_own_colors(tmp_path: Path, color: tuple[int, int, int]) -> None:
    """A gray value is neither inverted nor stretched, and red stays red."""
    picture = np.full((1, 28, 28, 3), color, np.uint8)
    picture = picture[..., 0] if len(set(color)) == 1 else picture
    draw_image_grid(tmp_path / "a.png", picture, ["x"], "One", columns=1)
    with Image.open(tmp_path / "a.png") as drawn:
        assert drawn.convert("RGB").getpixel((540, drawn.height - 540)) == color


def test_mean_images_are_drawn_like_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 28, 28, 3), np.uint8)
    draw_image_grid(tmp_path / "a.png", pixels, ["", "", ""], "Means", columns=3)
    draw_image_grid(tmp_path / "b.png", pixels + 0.4, ["", "", ""], "Means", columns=3)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
