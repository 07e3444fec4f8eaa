"""The command line of the stages, and the exit after an error."""

import argparse
import inspect
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import NoReturn

from src.params.base import load_sections
from src.runtime.errors import PipelineError
from src.runtime.files import exclusive_lock
from src.runtime.signals import ignore_signals, raise_on_signals, stop_with_dvc


def run_stage(main: Callable[..., None]) -> None:
    """Run `main` of a stage with the sections of params.yaml and the paths that its signature names.

    Each `Path` becomes a required option `--name PATH`. Any other annotation is the schema of the section of that name.
    The stage holds its lock: a second run of the same stage in this folder waits.
    """
    stage = Path(sys.argv[0]).stem
    annotations = {name: parameter.annotation for name, parameter in inspect.signature(main).parameters.items()}
    schemas = {name: annotation for name, annotation in annotations.items() if annotation is not Path}
    paths = [name for name in annotations if name not in schemas]
    parser = argparse.ArgumentParser(prog=f"python -m stages.{stage}", description=sys.modules[main.__module__].__doc__)
    for name in paths:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, metavar="PATH")
    options = vars(parser.parse_args())
    with exit_on_error(retry="dvc repro   # a training run resumes from its checkpoint"):
        raise_on_signals()
        if "DVC_STAGE" in os.environ:
            stop_with_dvc()
        # under torchrun only the main process writes, so only that one takes the lock
        is_main_process = os.environ.get("RANK", "0") == "0"
        with exclusive_lock(Path(f".dvc/tmp/{stage}.lock")) if is_main_process else nullcontext():
            main(**load_sections(Path("params.yaml"), schemas), **options)


@contextmanager
def exit_on_error(retry: str | None = None) -> Iterator[None]:
    """Print expected errors without a traceback and exit with status 1, or 130 after a signal.

    Args:
        retry: the hint after a signal; by default the command that is running.
    """
    try:
        yield
    except PipelineError as error:
        exit_with_error(error)
    except OSError as error:
        path = error.filename or Path.cwd()
        message = f"{path} cannot be read or written: {error.strerror}" if error.filename else str(error)
        hint = f"df -h . && ls -ld {shlex.quote(str(path))}   # then repeat the command"
        exit_with_error(PipelineError(message, hint))
    except KeyboardInterrupt as interruption:
        message = f"interrupted: {str(interruption) or 'nothing is saved'}"
        exit_with_error(PipelineError(message, retry or shlex.join(["python", *sys.orig_argv[1:]])), status=130)


def exit_with_error(error: PipelineError, status: int = 1) -> NoReturn:
    """Print an error to stderr and exit. During an experiment, the hint names it: params.yaml has its settings."""
    ignore_signals()
    if name := os.environ.get("DVC_EXP_NAME"):
        error.hint = re.sub("dvc (repro|exp run)", f"dvc exp run --name {name}", error.hint)
    print(error, file=sys.stderr, flush=True)
    raise SystemExit(status)
