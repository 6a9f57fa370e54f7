"""What goes wrong around an algorithm: in what the job gave it, in a request, or because it is told to stop. No I/O.

A message is one sentence: it becomes the failure file of a training job, and so the FailureReason that SageMaker shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from tritonforge.errors import TritonForgeError

__all__ = ["HyperparameterError", "InputError", "RefusalError", "StoppedError"]


class InputError(TritonForgeError):
    """The input of the job is invalid: its settings, its channels, or the data in them."""

    exit_code = 2


class HyperparameterError(InputError, ValueError):
    """Hyperparameters are unknown, missing, or have wrong values; ``problems`` has one sentence for each."""

    def __init__(self, problems: Sequence[str]) -> None:
        noun = "hyperparameter is" if len(problems) == 1 else "hyperparameters are"
        super().__init__(f"{len(problems)} {noun} wrong: {'; '.join(problems)}")
        self.problems = tuple(problems)


class StoppedError(TritonForgeError):
    """SIGTERM came, and what was waited for is waited for no more; `run` takes it for a stop in good order."""


class RefusalError(TritonForgeError):
    """An inference container refuses a request; ``status`` is the HTTP status, 4xx where the client is at fault."""

    def __init__(self, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
