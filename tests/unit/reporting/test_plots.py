"""The figures of the plot stage."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from src.data.dataset import Dataset
from src.reporting import plots

CLASSES = ("cat", "dog")
TEST_SET = Dataset(np.full((4, 28, 28), 200, np.uint8), np.array([0, 0, 1, 1], np.uint8), CLASSES)
PREDICTIONS = pd.DataFrame(
    [[0, "cat", "cat", 0.9], [1, "cat", "dog", 0.6], [2, "dog", "cat", 0.8], [3, "dog", "cat", 0.8]],
    columns=["index", "actual", "predicted", "confidence"],
)
HISTORY = pd.DataFrame(
    [[1, 0.5, 0.8, 0.4, 0.85], [2, 0.25, 0.9, 0.2, 0.95]],
    columns=["epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy"],
)


def texts(figures: list[Figure]) -> list[str]:
    """Return all texts of the last figure."""
    return [text.get_text() for text in figures[-1].findobj(lambda artist: hasattr(artist, "get_text"))]


def test_history_titles_show_the_last_epoch(tmp_path: Path, figures: list[Figure]) -> None:
    """Also without validation images."""
    plots.plot_train_test_metrics(tmp_path / "a.png", HISTORY)
    train = ["train loss: 0.2500", "train accuracy: 90.00%"]
    validation = ["validation loss: 0.2000", "validation accuracy: 95.00%"]
    assert [axis.get_title(loc="left") for axis in figures[0].axes] == [
        title for row in zip(train, validation, strict=True) for title in row
    ]
    plots.plot_train_test_metrics(tmp_path / "a.png", HISTORY.filter(regex="epoch|train"))
    assert [axis.get_title(loc="left") for axis in figures[1].axes] == train


def test_one_high_loss_does_not_flatten_the_history(tmp_path: Path, figures: list[Figure]) -> None:
    history = pd.concat([HISTORY] * 5, ignore_index=True)
    history.loc[0, "validation_loss"] = 122
    plots.plot_train_test_metrics(tmp_path / "a.png", history)
    assert figures[0].axes[0].get_ylim()[1] < 10


@pytest.mark.parametrize(("count", "subtitle"), [(3, ""), (12, ""), (60, "\nThe 12 most confused of 60 classes")])
def test_confusion_matrix_shows_the_most_confused_classes_with_a_mistake(
    tmp_path: Path, figures: list[Figure], count: int, subtitle: str
) -> None:
    """Each class has one right prediction. An image of the last class is taken for the first."""
    names = tuple(f"a long name of class {index}" for index in range(count))
    labels = np.array([*range(count), count - 1], np.uint8)
    predictions = pd.DataFrame({"actual": [names[label] for label in labels], "predicted": [*names, names[0]]})
    predictions = predictions.assign(confidence=0.5).reset_index()
    test_set = Dataset(np.full((count + 1, 64, 64, 3), (200, 0, 0), np.uint8), labels, names)
    confusion = pd.crosstab(predictions["actual"], predictions["predicted"]).reindex(index=names, columns=names)
    plots.plot_confusion_matrix(tmp_path / "a.png", confusion, test_set, predictions)
    title = f"Mistakes: 1 of {count + 1} test images, accuracy {count / (count + 1):.2%}{subtitle}"
    assert title in texts(figures)
    assert texts(figures).count("1") == min(count, 12) + 1
    assert {names[0], names[-1]} <= set(texts(figures))
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert (pixels == (200, 0, 0)).all(axis=1).any()


def test_mistakes_show_classes_confidence_and_file_names(tmp_path: Path, figures: list[Figure]) -> None:
    files = ("cat/a.png", "cat/b.png", "dog/a_long_file_name_of_a_picture.png", "dog/d.png")
    plots.plot_confident_mistakes(tmp_path / "a.png", replace(TEST_SET, files=files), PREDICTIONS)
    assert [text.get_text() for text in figures[0].axes[0].texts] == [
        "dog → cat\n80% sure\na_long_f…f_a_picture.png",
        "dog → cat\n80% sure\nd.png",
        "cat → dog\n60% sure\nb.png",
    ]
    assert "Most confident mistakes: 3 of 3 (actual → predicted)" in texts(figures)


def test_model_without_mistakes_is_drawn(tmp_path: Path, figures: list[Figure]) -> None:
    right = PREDICTIONS.assign(predicted=PREDICTIONS["actual"])
    plots.plot_confident_mistakes(tmp_path / "a.png", TEST_SET, right)
    assert "Most confident mistakes: 0 of 0 (actual → predicted)" in texts(figures)
    plots.plot_confusion_matrix(tmp_path / "b.png", pd.DataFrame(np.diag([2, 2]), CLASSES, CLASSES), TEST_SET, right)
    assert "Mistakes: 0 of 4 test images, accuracy 100.00%" in texts(figures)


def test_reliability_shows_the_mistakes_among_the_surest_images(tmp_path: Path, figures: list[Figure]) -> None:
    rows = [("a", "a", 0.9), ("a", "b", 0.8), ("b", "b", 0.7), ("b", "a", 0.6)]
    table = pd.DataFrame(rows, columns=["actual", "predicted", "confidence"]).reset_index()
    plots.plot_reliability(tmp_path / "a.png", table, "index")
    (line,) = figures[0].axes[1].lines
    assert line.get_xdata().tolist() == [0.25, 0.5, 0.75, 1]
    assert line.get_ydata().tolist() == pytest.approx([0, 1 / 2, 1 / 3, 1 / 2])
