"""The one kind of error that a person is meant to read."""

from textwrap import indent


class PipelineError(Exception):
    """A problem its reader can solve: what was found, what was expected, where, and the command to run next."""

    def __init__(self, problem: str, *, found: object, expected: object, where: object, run: str) -> None:
        rows = {"found:": found, "expected:": expected, "where:": where, "run:": run}
        lines = [f"  {key:<10}{indent(str(value), ' ' * 12).strip()}" for key, value in rows.items()]
        super().__init__("\n".join([f"error: {problem}", *lines]))
