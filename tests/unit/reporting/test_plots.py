"""The figures of the plot stage."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    {
        "index": [0, 1, 2, 3],
        "actual": ["cat", "cat", "dog", "dog"],
        "predicted": ["cat", "dog", "cat", "cat"],
        "confidence": [0.9, 0.6, 0.8, 0.8],
    }
)
CONFUSION = pd.DataFrame([[1, 1], [2, 0]], list(CLASSES), list(CLASSES))
HISTORY = pd.DataFrame(
    {
        "epoch": [1, 2],
        "train_loss": [0.5, 0.25],
        "train_accuracy": [0.8, 0.9],
        "validation_loss": [0.4, 0.2],
        "validation_accuracy": [0.85, 0.95],
    }
)


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """All texts of the figure that the test draws."""
    found: list[str] = []
    original = plots.saved_figure

    @contextmanager
    def recording(*arguments: Any, **options: Any) -> Iterator[Figure]:
        with original(*arguments, **options) as figure:
            yield figure
        found.extend(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))

    monkeypatch.setattr(plots, "saved_figure", recording)
    monkeypatch.setattr("src.drawing.saved_figure", recording)
    return found


def test_mistakes_are_sorted_by_confidence_then_index() -> None:
    assert plots.mistakes_by_confidence(PREDICTIONS)["index"].tolist() == [2, 3, 1]


def test_history_titles_show_the_last_epoch_and_the_test_metrics(tmp_path: Path, texts: list[str]) -> None:
    final = {"loss": 0.3, "accuracy": 0.9}
    plots.plot_train_test_metrics(tmp_path / "a.png", HISTORY, "validation", final, 50)
    assert {
        "Training loss: 0.2500",
        "Training accuracy: 90.00%",
        "Validation loss: 0.2000",
        "Validation accuracy: 95.00%",
        "test 0.3000",
        "test 90.00%",
    } <= set(texts)


def test_one_high_loss_does_not_flatten_the_history(tmp_path: Path, texts: list[str]) -> None:
    history = pd.concat([HISTORY.assign(train_loss=122), *[HISTORY] * 9])
    plots.plot_train_test_metrics(tmp_path / "a.png", history, "validation", {"loss": 0.3, "accuracy": 0.9}, 50)
    assert "4" in texts
    assert "100" not in texts


def test_history_plot_shows_the_test_set_if_there_is_no_validation_set(tmp_path: Path, texts: list[str]) -> None:
    plots.plot_train_test_metrics(tmp_path / "a.png", HISTORY, "test", {"loss": 0.2, "accuracy": 0.95}, 50)
    assert "Test loss: 0.2000" in texts
    assert "test 0.2000" not in texts


def test_confusion_matrix_shows_every_count(tmp_path: Path, texts: list[str]) -> None:
    plots.plot_confusion_matrix(tmp_path / "a.png", CONFUSION, TEST_SET, PREDICTIONS, 50)
    assert "Mistakes: 3 of 4 test images, accuracy 25.00%" in texts
    counts = [text for text in texts if text and text in "12"]
    assert counts == ["1", "1", "2"]


def test_mistakes_show_actual_and_predicted_class(tmp_path: Path, texts: list[str]) -> None:
    plots.plot_confident_mistakes(tmp_path / "a.png", TEST_SET, PREDICTIONS, 2, 50)
    assert "Most confident mistakes: 2 of 3 (actual → predicted)" in texts
    assert texts.count("dog → cat\n80% sure") == 2


def test_model_without_mistakes_is_drawn(tmp_path: Path, texts: list[str]) -> None:
    right = PREDICTIONS.assign(predicted=PREDICTIONS["actual"])
    plots.plot_confident_mistakes(tmp_path / "a.png", TEST_SET, right, 2, 50)
    plots.plot_confusion_matrix(
        tmp_path / "b.png", pd.DataFrame(np.diag([2, 2]), CLASSES, CLASSES), TEST_SET, right, 50
    )
    assert "Most confident mistakes: 0 of 0 (actual → predicted)" in texts
    assert "Mistakes: 0 of 4 test images, accuracy 100.00%" in texts


@pytest.mark.parametrize("count", [3, 12, 13, 50])
def test_confusion_matrix_shows_every_count_in_color_for_any_number_of_classes(
    tmp_path: Path, texts: list[str], count: int
) -> None:
    names = tuple(f"a long name of class {index}" for index in range(count))
    labels = np.arange(2 * count, dtype=np.uint8) % count
    test_set = Dataset(np.full((2 * count, 64, 64, 3), (200, 0, 0), np.uint8), labels, names)
    guesses = np.concatenate([labels[:count], (labels[count:] + 1) % count])
    actual, predicted = ([names[index] for index in indices] for indices in (labels, guesses))
    predictions = pd.DataFrame(
        {"index": range(2 * count), "actual": actual, "predicted": predicted, "confidence": [0.5] * 2 * count}
    )
    confusion = pd.crosstab(predictions["actual"], predictions["predicted"]).reindex(index=names, columns=names)
    plots.plot_confusion_matrix(tmp_path / "a.png", confusion.fillna(0).astype(int), test_set, predictions, 50)
    assert texts.count("1") == 2 * count
    with Image.open(tmp_path / "a.png") as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    is_illustrated = (pixels == (200, 0, 0)).all(axis=1).any()
    assert is_illustrated == (count <= plots.MAX_ILLUSTRATED)


def test_confusion_matrix_shows_the_most_confused_of_many_classes(tmp_path: Path, texts: list[str]) -> None:
    names = [f"c{index}" for index in range(60)]
    confusion = pd.DataFrame(np.eye(60, dtype=int), names, names)
    confusion.loc["c20", "c55"] = 1
    plots.plot_confusion_matrix(tmp_path / "a.png", confusion, TEST_SET, PREDICTIONS, 50)
    assert "Mistakes: 1 of 61 test images, accuracy 98.36%\nThe 50 most confused of 60 classes" in texts
    assert {"c20", "c55"} <= set(texts)
    assert len({text for text in texts if text.startswith("c")}) == 50


def test_mistakes_show_file_names(tmp_path: Path, texts: list[str]) -> None:
    files = ("cat/a.png", "cat/b.png", "dog/a_long_file_name_of_a_picture.png", "dog/d.png")
    test_set = replace(TEST_SET, files=files)
    plots.plot_confident_mistakes(tmp_path / "a.png", test_set, PREDICTIONS, 3, 50)
    assert "cat → dog\n60% sure\nb.png" in texts
    assert "dog → cat\n80% sure\na_long_f…f_a_picture.png" in texts


def test_class_without_images_has_no_accuracy(tmp_path: Path, texts: list[str]) -> None:
    confusion = pd.DataFrame([[1, 1, 0], [0, 0, 0], [1, 0, 1]], list("abc"), list("abc"))
    plots.plot_per_class_accuracy(tmp_path / "a.png", confusion, 50)
    assert {"a", "c", "50.00%", "all 50.00% "} <= set(texts)
    assert "b" not in texts


def test_per_class_accuracy_shows_each_class_and_all(tmp_path: Path, texts: list[str]) -> None:
    plots.plot_per_class_accuracy(tmp_path / "a.png", CONFUSION, 50)
    assert {"cat", "dog", "50.00%", "0.00%", "all 25.00% "} <= set(texts)


def test_accuracy_of_many_classes_shows_the_least_accurate(tmp_path: Path, texts: list[str]) -> None:
    names = [f"c{index}" for index in range(60)]
    confusion = pd.DataFrame(np.eye(60, dtype=int), names, names)
    confusion.loc["c55", "c20"] = 1
    plots.plot_per_class_accuracy(tmp_path / "a.png", confusion, 50)
    assert {"c55", "50.00%", "all 98.36% "} <= set(texts)
    assert len({text for text in texts if text.startswith("c")}) == 50


def test_reliability_is_drawn(tmp_path: Path, texts: list[str]) -> None:
    plots.plot_reliability(tmp_path / "a.png", PREDICTIONS, 15, 50)
    assert "Accuracy by confidence, with 95 % intervals" in texts


def test_reliability_has_plain_numbers_of_images(tmp_path: Path, texts: list[str]) -> None:
    plots.plot_reliability(tmp_path / "a.png", pd.concat([PREDICTIONS] * 200), 15, 50)
    assert {"1", "10", "100"} <= set(texts)
    assert not [text for text in texts if "$" in text]
