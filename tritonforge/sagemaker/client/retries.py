"""Retries: which failures of AWS are repeated, how often, and after which delays.

- A request to S3 or any other service: botocore repeats what was throttled or lost, `ATTEMPTS` in all.
- The bytes of an object of S3: a download continues where the connection was cut, unless `RESUMES` in a row bring none.
- An inference: `INVOCATIONS`, only if SageMaker reports that the model did not receive it; a second run costs money.
- A request that refers to a resource created a moment ago: `NEW_RESOURCES`, because SageMaker reads its tables late.
- The status of something that takes its time: `grow_delays`, and `is_transient` for the failures to look past.

>>> attempts = []
>>> RetryPolicy((0.0, 0.0)).call(lambda attempt: attempts.append(attempt), is_retryable=is_transient)
>>> attempts
[1]
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from tritonforge.errors import ConnectError, TritonForgeError
from tritonforge.sagemaker.client.errors import AwsError

__all__ = ["ATTEMPTS", "INVOCATIONS", "NEW_RESOURCES", "RESUMES", "RetryPolicy", "botocore_retries", "grow_delays",
           "is_transient"]  # fmt: skip

_Result = TypeVar("_Result")

#: The first attempt and the repetitions of a request (botocore's own default is 3).
ATTEMPTS: Final = 5
#: How often in a row a download is resumed without a new byte.
RESUMES: Final = 3

_SERVER_ERROR: Final = 500


def botocore_retries(attempts: int) -> dict[str, Any]:
    """Return botocore's setting for this number of attempts: mode "standard", with exponential backoff and jitter."""
    return {"mode": "standard", "total_max_attempts": attempts}


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The delays in seconds before each repetition of a call; ``jitter`` is the share that is cut at random."""

    delays: tuple[float, ...]
    jitter: float = 0.0

    def call(
        self,
        function: Callable[[int], _Result],
        *,
        is_retryable: Callable[[TritonForgeError], bool],
        sleep: Callable[[float], None] | None = None,
    ) -> _Result:
        """Call a function with the number of the attempt, from 1, until it returns or its error is not retryable."""
        for attempt, delay in enumerate(self.delays, start=1):
            try:
                return function(attempt)
            except TritonForgeError as error:
                if not is_retryable(error):
                    raise
            # The jitter keeps clients apart, it guards nothing.
            (sleep or time.sleep)(delay * random.uniform(1.0 - self.jitter, 1.0))  # noqa: S311
        return function(len(self.delays) + 1)


INVOCATIONS: Final = RetryPolicy((0.5, 1.0, 2.0, 4.0, 8.0), jitter=0.5)
NEW_RESOURCES: Final = RetryPolicy((1.0, 2.0, 4.0, 8.0, 16.0))


def grow_delays(first: float, *, growth: float, longest: float) -> Iterator[float]:
    """Yield the seconds between two requests for a status, short at first, without end."""
    delay = first
    while True:
        yield delay
        delay = min(delay * growth, longest)


def is_transient(error: TritonForgeError) -> bool:
    """Return True if a failure may pass by itself: no connection, throttling, an error inside AWS."""
    if isinstance(error, AwsError):
        return error.throttled or error.status >= _SERVER_ERROR
    return isinstance(error, ConnectError)
