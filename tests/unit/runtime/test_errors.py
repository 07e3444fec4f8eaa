"""Expected errors are one message and one hint."""

from src.runtime.errors import PipelineError


def test_error_is_a_message_with_aligned_lines_and_a_hint() -> None:
    error = PipelineError("params.yaml has 2 mistakes:\ntrain.epochs: missing\nmodel.name: missing", "dvc repro")
    assert str(error).splitlines() == [
        "error: params.yaml has 2 mistakes:",
        "       train.epochs: missing",
        "       model.name: missing",
        "hint: dvc repro",
    ]
