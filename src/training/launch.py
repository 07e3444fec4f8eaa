"""torchrun, started again if a process is killed: python -m src.training.launch --standalone --nproc-per-node=2 ...

torchrun's own restarts would also repeat errors, and it would print tracebacks below them.
"""

import logging
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from src.runtime.cli import exit_on_error
from src.runtime.errors import PipelineError
from src.training.distributed import LOST_CONNECTION

MAX_RESTARTS = 3


def main(arguments: list[str]) -> None:
    """Start all processes, up to 1 + `MAX_RESTARTS` times. They resume from the checkpoint.

    Raises:
        PipelineError: processes were killed each time.
        SystemExit: a process exited with an error, which it has printed, or a signal arrived.
    """
    logging.disable()
    for _ in range(1 + MAX_RESTARTS):
        try:
            torchrun(arguments)
            return
        except SignalException:
            sys.exit(130)
        except ChildFailedError as error:
            statuses = {failure.exitcode for failure in error.failures.values()}
        if any(status > 0 and status != LOST_CONNECTION for status in statuses):
            sys.exit(1)
        print("warning: a training process was killed", file=sys.stderr, flush=True)
    raise PipelineError(
        f"training processes were killed {1 + MAX_RESTARTS} times", "dvc repro   # resumes from the checkpoint"
    )


if __name__ == "__main__":
    with exit_on_error():
        main(sys.argv[1:])
