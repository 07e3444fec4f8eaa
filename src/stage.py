"""What every stage shares: its command line, its parameters, and errors that a person can act on."""

import argparse
import errno
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from src.errors import PipelineError
from src.params import load_params


def run_stage(main: Callable[..., None]) -> None:
    """Run `main(params, **paths)`: each parameter after the first becomes a required option `--name PATH`.

    A problem its reader can solve ends the process with one block on stderr and exit status 1, without a traceback.
    """
    _, *names = inspect.signature(main).parameters
    doc = (sys.modules[main.__module__].__doc__ or "").strip()
    parser = argparse.ArgumentParser(prog=f"python -m stages.{Path(sys.argv[0]).stem}", description=doc)
    for name in names:
        parser.add_argument(f"--{name.replace('_', '-')}", type=Path, required=True, metavar="PATH")
    paths = vars(parser.parse_args())
    try:
        main(load_params(Path("params.yaml")), **paths)
    except PipelineError as error:
        fail(str(error), status=1)
    except OSError as error:
        fail(str(explain_os_error(error)), status=1)
    except KeyboardInterrupt:
        fail("interrupted: DVC recorded nothing; `dvc repro` starts this stage again", status=130)


def explain_os_error(error: OSError) -> PipelineError:
    """Say in a person's words what the operating system refused, and what to do about it."""
    where = str(error.filename or Path.cwd())
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PipelineError(
            "the disk is full",
            found=os.strerror(error.errno),
            expected="room for the stage's outputs",
            where=where,
            run="df -h .   # make room, then: dvc repro",
        )
    return PipelineError(
        "a file cannot be read or written",
        found=error.strerror or str(error),
        expected="a file and folder this user may read and write",
        where=where,
        run=f"ls -ld '{where}'   # mend it, then: dvc repro",
    )


def fail(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr, flush=True)
    raise SystemExit(status)
