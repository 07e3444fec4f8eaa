"""The exception for problems that the user can solve."""


class PipelineError(Exception):
    """A problem that the user can solve: `error:` says what is wrong, `hint:` what to run.

    The message names what was found, what was expected and where. Continuation lines are indented.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message, hint)
        self.message, self.hint = message, hint

    def __str__(self) -> str:
        return f"error: {self.message}".replace("\n", "\n       ") + f"\nhint: {self.hint}"
