"""Expected errors are one message and one hint."""

from src.runtime.errors import PipelineError


def test_error_is_a_message_and_a_hint() -> None:
    error = PipelineError("train.device is cuda, expected cpu", "dvc exp run -S train.device=cpu")
    assert str(error) == "error: train.device is cuda, expected cpu\nhint: dvc exp run -S train.device=cpu"


def test_further_lines_are_aligned_with_the_first() -> None:
    error = PipelineError("params.yaml has 2 mistakes:\ntrain.epochs: missing\nplot.dpi: missing", "dvc repro")
    assert str(error).splitlines() == [
        "error: params.yaml has 2 mistakes:",
        "       train.epochs: missing",
        "       plot.dpi: missing",
        "hint: dvc repro",
    ]
