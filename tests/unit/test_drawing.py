"""Figures and grids of images."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from src.drawing import (
    draw_image_grid,
    overlay_heat,
    plot_sample_training_images,
    saved_figure,
    shorten,
    to_uint8,
)


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
    assert heights == [182, 310]  # one and two rows


def test_long_captions_reduce_the_number_of_columns(tmp_path: Path) -> None:
    draw_image_grid(tmp_path / "a.png", images(8), ["x" * 20] * 8, "Long", columns=8)
    draw_image_grid(tmp_path / "b.png", images(8), ["x"] * 8, "Short", columns=8)
    assert size(tmp_path / "a.png")[1] > 2 * size(tmp_path / "b.png")[1]


def test_long_captions_do_not_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captions of 24 wide characters."""
    figures = []

    @contextmanager
    def recording(*arguments: Any, **options: Any) -> Iterator[Figure]:
        with saved_figure(*arguments, **options) as figure:
            yield figure
            figures.append(figure)

    monkeypatch.setattr("src.drawing.saved_figure", recording)
    draw_image_grid(tmp_path / "a.png", images(3), ["mimetypes → applications"] * 3, "Long", columns=6)
    boxes = [text.get_window_extent() for text in figures[0].axes[0].texts]
    assert len(boxes) == 3
    assert boxes[0].x0 > 0
    for left, right in itertools.pairwise(boxes):
        assert left.x1 < right.x0


def test_grid_without_images_is_drawn(tmp_path: Path) -> None:
    draw_image_grid(tmp_path / "a.png", images(0), [], "No mistakes", columns=8)
    assert size(tmp_path / "a.png")[0] == 1080


def test_large_images_are_drawn_in_rows_of_five(tmp_path: Path) -> None:
    large = np.zeros((5, 224, 224, 3), np.uint8)
    draw_image_grid(tmp_path / "five.png", large, ["x"] * 5, "Large", columns=10)
    draw_image_grid(tmp_path / "six.png", large[[0, 1, 2, 3, 4, 0]], ["x"] * 6, "Large", columns=10)
    assert size(tmp_path / "six.png")[1] > size(tmp_path / "five.png")[1]


def test_long_title_gets_a_second_line(tmp_path: Path) -> None:
    heights = []
    for title in ("Short", "A long title " * 10):
        draw_image_grid(tmp_path / "a.png", images(8), ["x"] * 8, title, columns=8)
        heights.append(size(tmp_path / "a.png")[1])
    assert heights[1] == heights[0] + 30


@pytest.mark.parametrize(("value", "channels"), [(0, 1), (255, 1), (100, 1), (100, 3)])
def test_images_are_drawn_in_their_own_colors(tmp_path: Path, value: int, channels: int) -> None:
    """A gray value is neither inverted nor stretched, and red stays red."""
    color = (value, 0, 0) if channels == 3 else (value,) * 3
    picture = np.full((1, 28, 28, 3), color, np.uint8) if channels == 3 else np.full((1, 28, 28), value, np.uint8)
    draw_image_grid(tmp_path / "a.png", picture, ["x"], "One", columns=1)
    with Image.open(tmp_path / "a.png") as drawn:
        center = drawn.convert("RGB").getpixel((108, drawn.height - 108))
    assert center == color


def test_mean_image_is_drawn_like_an_image(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.float64):
        draw_image_grid(tmp_path / np.dtype(dtype).name, np.full((1, 8, 8, 3), 100, dtype), ["x"], "One", columns=1)
    assert (tmp_path / "uint8").read_bytes() == (tmp_path / "float64").read_bytes()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("cat.png", "cat.png"), ("a_long_file_name_0001.png", "a_lo…0001.png"), ("é" * 14, "é" * 4 + "…" + "é" * 8)],
)
def test_long_text_keeps_its_start_and_end(text: str, expected: str) -> None:
    assert shorten(text, 13) == expected
    assert len(expected) <= 13


def test_floats_become_pixels() -> None:
    gray = np.array([[[[0.0, 0.5], [1.0, 1.2]]]])
    assert to_uint8(gray).tolist() == [[[0, 128], [255, 255]]]
    assert to_uint8(np.concatenate([gray, 0 * gray, -gray], axis=1)).tolist() == [
        [[[0, 0, 0], [128, 0, 0]], [[255, 0, 0], [255, 0, 0]]]
    ]


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 8, 8, 3)])
def test_heat_colors_the_hottest_place_and_leaves_the_others(shape: tuple[int, ...]) -> None:
    heat = np.array([[[1, -1], [0, 0]]], np.float32)
    colored = overlay_heat(np.full(shape, 100, np.uint8), heat)
    assert colored.shape == (1, 8, 8, 3)
    assert colored[0, 0, 0].tolist() == [int(0.3 * 100 + 0.7 * value) for value in (213, 94, 0)]
    assert colored[0, 7, 7].tolist() == [100, 100, 100]


def test_heat_of_no_images_is_drawn(tmp_path: Path) -> None:
    draw_image_grid(tmp_path / "a.png", overlay_heat(images(0), np.zeros((0, 8, 8), np.float32)), [], "None", columns=6)
    assert size(tmp_path / "a.png")[0] == 1080


def test_image_without_heat_stays_as_it_is() -> None:
    pictures = images(1)
    assert (overlay_heat(pictures, np.zeros((1, 2, 2), np.float32)) == pictures[..., None]).all()
