"""Progress bar, one line per row of the history, and a log of training times."""

import os
from pathlib import Path

from tqdm import tqdm

from src.params import Train
from src.runtime.files import main_checkout
from src.training.distributed import is_main_process
from src.training.state import HistoryRow, TrainState

TIMES = Path("data/training_times.csv")  # git ignores it: times differ between equal runs


class ProgressBar(tqdm):  # type: ignore[misc]  # tqdm has no types
    """A bar over all steps of a run. It shows nothing outside the main process or if stderr is not a terminal."""

    def __init__(self, state: TrainState) -> None:
        super().__init__(
            total=state.steps.total,
            initial=state.step,
            unit=" images",
            unit_scale=state.settings.batch_size,
            leave=False,
            disable=None if is_main_process() else True,
        )

    def show_step(self, state: TrainState) -> None:
        """Show one more step, and mean loss and accuracy since the last row of the history."""
        if self.update():  # ten times per second: to read the sums in every step would wait for the GPU
            loss, correct, seen = state.sums.tolist()
            epoch = state.step / state.steps.per_epoch
            self.set_description(f"epoch {epoch:.2f}/{state.settings.epochs:g}", refresh=False)
            self.set_postfix_str(f"loss {loss / seen:.4f}, accuracy {correct / seen:.4f}")


def report_row(metrics: HistoryRow, settings: Train) -> None:
    """Print one line for a row of the history."""
    line = (
        f"epoch {metrics['epoch']:.4g}/{settings.epochs:g}  learning rate {metrics['learning_rate']:.4g}"
        f"  train loss {metrics['train_loss']:.4f} accuracy {metrics['train_accuracy']:.4f}"
    )
    if "validation_loss" in metrics:
        line += f"  validation loss {metrics['validation_loss']:.4f} accuracy {metrics['validation_accuracy']:.4f}"
    print(line, flush=True)


def print_once(text: str) -> None:
    """Print in the main process."""
    if is_main_process():
        print(text, flush=True)


def log_training_time(state: TrainState) -> None:
    """Print the training time of a finished run, and append it to `TIMES` in the main checkout.

    DVC names the experiment in DVC_EXP_NAME.
    """
    print(f"{state.step:,} steps of {state.settings.batch_size} images in {state.seconds:.1f} s, without validation")
    path = main_checkout(TIMES)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        if not file.tell():
            file.write("experiment,steps,seconds\n")
        file.write(f"{os.environ.get('DVC_EXP_NAME', '')},{state.step},{state.seconds:.1f}\n")
