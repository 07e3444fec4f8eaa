"""The command line of the stages, and the exit after an error."""

import argparse
import gc
import inspect
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import NoReturn

import psutil

from src.params import load_params
from src.runtime.errors import PipelineError
from src.runtime.files import exclusive_lock
from src.runtime.signals import ignore_signals, raise_on_signals, stop_with_dvc


def run_stage(main: Callable[..., None], check_model: bool = True) -> None:
    """Run `main(params, **paths)` of a stage: each argument after the first becomes a required option `--name PATH`.

    It holds the lock of the stage: a second run of the same stage in this folder waits.

    Args:
        main: the stage.
        check_model: whether to check `model` in params.yaml. A stage that builds no network from it saves the import of
            torchvision, which takes seconds.
    """
    gc.enable()  # stages/__init__.py disabled it
    stage = Path(sys.argv[0]).stem
    _, *names = inspect.signature(main).parameters
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=sys.modules[main.__module__].__doc__)
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, metavar="PATH")
    paths = vars(parser.parse_args())
    with exit_on_error(retry="dvc repro   # a training run resumes from its checkpoint"):
        raise_on_signals()
        if "DVC_STAGE" in os.environ:
            stop_with_dvc()
        # under torchrun only the main process writes, so only that one takes the lock
        is_main_process = os.environ.get("RANK", "0") == "0"
        with exclusive_lock(Path(f".dvc/tmp/{stage}.lock")) if is_main_process else nullcontext():
            main(load_params(Path("params.yaml"), check_model), **paths)
        if main.__module__ == "__main__":  # not in tests, which call stages in their own process
            exit_quickly()


@contextmanager
def exit_on_error(retry: str | None = None) -> Iterator[None]:
    """Print expected errors without a traceback and exit with status 1, or 130 after a signal.

    Args:
        retry: the hint after a signal; by default the command that is running.
    """
    try:
        yield
    except PipelineError as error:
        exit_with_error(str(error))
    except OSError as error:
        path = error.filename or Path.cwd()
        message = f"{path} cannot be read or written: {error.strerror}" if error.filename else str(error)
        exit_with_error(
            str(PipelineError(message, f"df -h . && ls -ld {shlex.quote(str(path))}   # then repeat the command"))
        )
    except KeyboardInterrupt as interruption:
        message = f"interrupted: {str(interruption) or 'nothing is saved'}"
        exit_with_error(str(PipelineError(message, retry or shlex.join(["python", *sys.orig_argv[1:]]))), status=130)


def exit_quickly() -> NoReturn:
    """Exit without Python's shutdown, which takes 0.3 s after an import of torch."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def running_experiment() -> str:
    """Return the command line `dvc exp run ...` that started this process, or "" if there is none."""
    with suppress(psutil.Error):
        for parent in psutil.Process().parents():
            _, found, options = "\0".join([*parent.cmdline(), ""]).partition("/dvc\0exp\0run\0")
            if found:
                return shlex.join(["dvc", "exp", "run", *options.split("\0")[:-1]])
    return ""


def exit_with_error(message: str, status: int = 1) -> NoReturn:
    """Print a message to stderr and exit. During an experiment, the hint repeats its name and settings."""
    ignore_signals()
    error, separator, hint = message.rpartition("\nhint: ")
    if experiment := running_experiment():
        hint = re.sub("dvc (repro|exp run)", lambda _: experiment, hint)
    print(error + separator + hint, file=sys.stderr, flush=True)
    raise SystemExit(status)
