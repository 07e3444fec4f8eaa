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
FINAL = {"loss": 0.3, "accuracy": 0.9}


def texts(figures: list[Figure]) -> list[str]:
    """Return all texts of the last figure."""
    return [text.get_text() for text in figures[-1].findobj(lambda artist: hasattr(artist, "get_text"))]


def one_mistake(count: int) -> pd.DataFrame:
    """Return the confusion of classes c0, c1 ... with one image each, and one mistake: an image of c20 is c55."""
    names = [f"c{index}" for index in range(count)]
    confusion = pd.DataFrame(np.eye(count, dtype=int), names, names)
    confusion.loc["c20", "c55"] = 1
    return confusion


def test_history_titles_show_the_last_epoch_and_the_test_metrics(tmp_path: Path, figures: list[Figure]) -> None:
    plots.plot_train_test_metrics(tmp_path / "a.png", HISTORY, "validation", FINAL)
    titles = {
        "Training loss: 0.2500",
        "Training accuracy: 90.00%",
        "Validation loss: 0.2000",
        "Validation accuracy: 95.00%",
    }
    assert titles | {"test 0.3000", "test 90.00%"} <= set(texts(figures))


def test_one_high_loss_does_not_flatten_the_history(tmp_path: Path, figures: list[Figure]) -> None:
    history = pd.concat([HISTORY.assign(train_loss=122), *[HISTORY] * 9])
    plots.plot_train_test_metrics(tmp_path / "a.png", history, "validation", FINAL)
    assert figures[0].axes[0].get_ylim() == (0, 5)


def test_history_plot_shows_the_test_set_if_there_is_no_validation_set(tmp_path: Path, figures: list[Figure]) -> None:
    plots.plot_train_test_metrics(tmp_path / "a.png", HISTORY, "test", {"loss": 0.2, "accuracy": 0.95})
    assert "Test loss: 0.2000" in texts(figures)
    assert "test 0.2000" not in texts(figures)


@pytest.mark.parametrize("count", [3, 12, 13])
def test_confusion_matrix_shows_every_count_and_a_mistake_of_few_classes(
    tmp_path: Path, figures: list[Figure], count: int
) -> None:
    names = tuple(f"a long name of class {index}" for index in range(count))
    labels = np.arange(2 * count, dtype=np.uint8) % count
    test_set = Dataset(np.full((2 * count, 64, 64, 3), (200, 0, 0), np.uint8), labels, names)
    guesses = np.concatenate([labels[:count], (labels[count:] + 1) % count])
    actual, predicted = ([names[index] for index in indices] for indices in (labels, guesses))
    predictions = pd.DataFrame({"actual": actual, "predicted": predicted, "confidence": 0.5}).reset_index()
    confusion = pd.crosstab(predictions["actual"], predictions["predicted"]).reindex(index=names, columns=names)
    plots.plot_confusion_matrix(tmp_path / "a.png", confusion, test_set, predictions)
    title = f"Mistakes: {count} of {2 * count} test images, accuracy 50.00%"
    assert (texts(figures).count("1"), texts(figures).count(title)) == (2 * count, 1)
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert (pixels == (200, 0, 0)).all(axis=1).any() == (count <= 12)


def test_confusion_matrix_shows_the_most_confused_of_many_classes(tmp_path: Path, figures: list[Figure]) -> None:
    plots.plot_confusion_matrix(tmp_path / "a.png", one_mistake(60), TEST_SET, PREDICTIONS)
    assert "Mistakes: 1 of 61 test images, accuracy 98.36%\nThe 50 most confused of 60 classes" in texts(figures)
    shown = {text for text in texts(figures) if text.startswith("c")}
    assert (len(shown), {"c20", "c55"} - shown) == (50, set())


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


def test_reliability_has_plain_numbers_of_images(tmp_path: Path, figures: list[Figure]) -> None:
    plots.plot_reliability(tmp_path / "a.png", pd.concat([PREDICTIONS] * 200))
    assert {"Accuracy by confidence, with 95 % intervals", "1", "10", "100"} <= set(texts(figures))
    assert not [text for text in texts(figures) if "$" in text]
