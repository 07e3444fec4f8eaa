"""The output of a training run."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from src.training import progress
from src.training.progress import ProgressBar, log_training_time, print_once, report_row
from src.training.state import TrainState

METRICS = {"epoch": 1, "learning_rate": 0.04, "train_loss": 0.5, "train_accuracy": 0.875}
VALIDATION = {"validation_loss": 0.25, "validation_accuracy": 0.9}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def state(new_state: Callable[..., TrainState]) -> TrainState:
    """One of eight steps is done: a loss of 48 over 32 images, 8 of them correct."""
    state = new_state("tiny", images=128, epochs=2.0)
    state.step, state.sums, state.seconds = 1, torch.tensor([48.0, 8.0, 32.0]), 1.26
    return state


def test_row_of_the_history_is_one_line(state: TrainState, capsys: pytest.CaptureFixture[str]) -> None:
    report_row(METRICS, state.settings)
    report_row(METRICS | {"epoch": 0.339535} | VALIDATION, state.settings)
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/2  learning rate 0.04  train loss 0.5000 accuracy 0.8750",
        "epoch 0.3395/2  learning rate 0.04  train loss 0.5000 accuracy 0.8750  validation loss 0.2500 accuracy 0.9000",
    ]


def test_progress_bar_shows_epoch_loss_and_accuracy_on_a_terminal(
    state: TrainState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with ProgressBar(state) as bar:
        bar.mininterval = 0
        bar.show_step(state)
        assert bar.n == 2
        shown = str(bar)
    assert shown.startswith("epoch 0.25/2: ")
    assert "loss 1.5000, accuracy 0.2500" in shown


def test_progress_bar_reads_the_sums_only_when_it_is_drawn(state: TrainState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    state.sums = torch.empty(3, device="meta")  # reading it is an error
    with ProgressBar(state) as bar:
        bar.mininterval = 1000
        bar.show_step(state)
        assert bar.n == 2


def test_progress_bar_is_hidden_without_a_terminal(state: TrainState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with ProgressBar(state) as bar:
        bar.show_step(state)
    assert sys.stderr.getvalue() == ""


def test_progress_bar_is_hidden_in_worker_processes(state: TrainState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setattr(progress, "is_main_process", lambda: False)
    with ProgressBar(state) as bar:
        bar.show_step(state)
    assert sys.stderr.getvalue() == ""


def test_only_the_main_process_prints(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    print_once("main")
    monkeypatch.setattr(progress, "is_main_process", lambda: False)
    print_once("worker")
    assert capsys.readouterr().out == "main\n"


def test_training_times_are_appended_to_a_log_of_the_main_checkout(
    state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment = tmp_path / ".dvc/tmp/exps/tmp123"
    experiment.mkdir(parents=True)
    monkeypatch.chdir(experiment)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    log_training_time(state)
    monkeypatch.setenv("DVC_EXP_NAME", "wide-net")
    log_training_time(state)
    assert capsys.readouterr().out == "1 steps of 32 images in 1.3 s, without validation\n" * 2
    assert (tmp_path / "data/training_times.csv").read_text() == "experiment,steps,seconds\n,1,1.3\nwide-net,1,1.3\n"
