"""The command line of the stages, and how expected errors end a process."""

import signal
import sys
from pathlib import Path

import pytest

from src.params.base import Section
from src.runtime.cli import exit_on_error, run_stage
from src.runtime.errors import PipelineError


class TrainParams(Section):
    epochs: int
    batch_size: int


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a params.yaml."""
    (tmp_path / "params.yaml").write_text("train: {epochs: 5, batch_size: 64}\nplot: mistakes in other sections\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setattr(sys, "argv", ["stages/count.py"])
    return tmp_path


@pytest.mark.usefixtures("folder")
def test_arguments_of_main_are_options_and_sections_of_params_yaml(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def main(train: TrainParams, prepared: Path, model_card: Path) -> None:
        calls.append((train.epochs, prepared, model_card))

    monkeypatch.setattr(sys, "argv", ["stages/count.py", "--prepared", "data/prepared", "--model-card", "card.md"])
    run_stage(main)
    assert calls == [(5, Path("data/prepared"), Path("card.md"))]


@pytest.mark.parametrize(("rank", "is_locked"), [("0", True), ("1", False)])
def test_main_process_of_a_stage_holds_its_lock(
    folder: Path, monkeypatch: pytest.MonkeyPatch, rank: str, is_locked: bool
) -> None:
    """Under torchrun the main process holds the lock while the others work."""
    monkeypatch.setenv("RANK", rank)
    found = []
    run_stage(lambda: found.append((folder / ".dvc/tmp/count.lock").exists()))
    assert found == [is_locked]


def test_mistakes_in_a_section_end_a_stage_before_any_work(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def main(train: TrainParams) -> None:
        pytest.fail("main was called")

    (folder / "params.yaml").write_text("train: {epochs: 5, batch_siz: 64}")
    with pytest.raises(SystemExit, match="1"):
        run_stage(main)
    assert capsys.readouterr().err.startswith("error: params.yaml has 2 mistakes:\n       train.batch_size: missing\n")


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (PipelineError("no cake", "make cake"), 1, "error: no cake\nhint: make cake\n"),
        (
            OSError(28, "No space left on device", "it's/a.bin"),
            1,
            "error: it's/a.bin cannot be read or written: No space left on device\n"
            "hint: df -h . && ls -ld 'it'\"'\"'s/a.bin'   # then repeat the command\n",
        ),
        (
            KeyboardInterrupt("the state is saved"),
            130,
            "error: interrupted: the state is saved\nhint: python sweep.py\n",
        ),
    ],
)
def test_expected_errors_are_printed_without_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int, printed: str
) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "sweep.py"])
    with pytest.raises(SystemExit, match=str(status)), exit_on_error():
        raise error
    assert capsys.readouterr().err == printed
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN  # a second signal does not interrupt the exit


@pytest.mark.usefixtures("folder")
def test_interrupted_stage_names_dvc_repro(capsys: pytest.CaptureFixture[str]) -> None:
    def main() -> None:
        raise KeyboardInterrupt("no output is recorded")

    with pytest.raises(SystemExit, match="130"):
        run_stage(main)
    assert capsys.readouterr().err == (
        "error: interrupted: no output is recorded\nhint: dvc repro   # a training run resumes from its checkpoint\n"
    )


def test_bugs_keep_their_traceback() -> None:
    with pytest.raises(ZeroDivisionError), exit_on_error():
        _ = 1 / 0
