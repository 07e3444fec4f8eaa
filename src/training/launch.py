"""torchrun with short errors: python -m src.training.launch --standalone --nproc-per-node=2 ..."""

import logging
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from src.runtime.cli import exit_on_error
from src.runtime.errors import PipelineError
from src.training.distributed import LOST_CONNECTION


def main(arguments: list[str]) -> None:
    """Start all processes and wait for them.

    Raises:
        PipelineError: a process was killed.
        SystemExit: a process exited with an error, which it has printed, or a signal arrived.
    """
    logging.disable()
    try:
        torchrun(arguments)
    except SignalException:
        sys.exit(130)
    except ChildFailedError as error:
        statuses = {failure.exitcode for failure in error.failures.values()}
        if any(status > 0 and status != LOST_CONNECTION for status in statuses):
            sys.exit(1)
        raise PipelineError("a training process was killed or lost its connection", "dvc repro   # resumes") from None


if __name__ == "__main__":
    with exit_on_error():
        main(sys.argv[1:])
