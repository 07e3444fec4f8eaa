"""Figures and grids of images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from src.drawing import draw_image_grid, plot_sample_training_images, saved_figure


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)


def size(path: Path) -> tuple[int, int]:
    """Width and height."""
    with Image.open(path) as image:
        return image.size


def test_equal_figures_have_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        with saved_figure(tmp_path / name, 4, 3) as figure:
            figure.subplots().plot([0, 1], [1, 0])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_figure_has_the_requested_size(tmp_path: Path) -> None:
    with saved_figure(tmp_path / "a.png", 4, 3, dpi=50):
        pass
    assert size(tmp_path / "a.png") == (200, 150)


def test_figure_that_fails_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no data"), saved_figure(tmp_path / "a.png", 4, 3):
        raise ValueError("no data")
    assert not list(tmp_path.iterdir())


def test_sample_images_are_drawn_in_rows_of_ten(tmp_path: Path) -> None:
    heights = []
    for count in (10, 11):
        plot_sample_training_images(tmp_path / "a.png", images(count), ["7"] * count, "Samples")
        heights.append(size(tmp_path / "a.png")[1])
    assert heights == [200, 328]  # one and two rows


def test_long_captions_reduce_the_number_of_columns(tmp_path: Path) -> None:
    draw_image_grid(tmp_path / "a.png", images(8), ["x" * 50] * 8, "Long", columns=8)
    draw_image_grid(tmp_path / "b.png", images(8), ["x"] * 8, "Short", columns=8)
    assert size(tmp_path / "a.png")[1] > 3 * size(tmp_path / "b.png")[1]


def test_grid_without_images_is_drawn(tmp_path: Path) -> None:
    draw_image_grid(tmp_path / "a.png", images(0), [], "No mistakes", columns=8)
    assert size(tmp_path / "a.png")[0] == 1080
