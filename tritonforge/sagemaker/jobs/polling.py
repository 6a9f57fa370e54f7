"""Looks at a job until it has ended, and asks for its end where that is wanted. An edge; but for `stop` it only reads.

Looks come often at first, then seldom; one that fails in passing is made again.
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from tritonforge.errors import ConnectError, DeploymentError
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.jobs.kinds import Kind
from tritonforge.sagemaker.jobs.log_tail import Lines
from tritonforge.sagemaker.plans.plan import Progress

__all__ = ["between", "stop", "until_ended"]

_SERVICE: Final = "sagemaker"

#: Seconds between two looks: short at first, then longer.
_FIRST: Final = 0.25
_LONGEST: Final = 10.0
_LONGER: Final = 1.3
#: Looks that may fail in a row, on top of botocore's own retries.
_FAILURES: Final = 5
_SERVER_ERROR: Final = 500

#: The log comes some seconds after the status: how often to look for its last lines, and the pause in seconds.
_LAST_LOOKS: Final = 3
_LAST_PAUSE: Final = 1.0


def until_ended(
    session: Session,
    kind: Kind,
    name: str,
    *,
    progress: Progress,
    phase: Callable[[Mapping[str, Any]], str],
    lines: Lines | None = None,
    line: Callable[[str], None] = lambda text: None,
    all_lines: bool = False,
) -> dict[str, Any]:
    """Look at a job until it has ended; how it is described then.

    ``phase`` is given every description, and says what is shown behind the status; ``line`` is given the lines of the
    log as they come. Those that come after the end are waited for where the job failed, or where ``all_lines`` are
    wanted.

    Raises:
        DeploymentError, ConnectError: AWS does not tell how the job is.
    """
    since, pause = time.monotonic(), _FIRST
    while True:
        found = _described(session, kind, name, progress)
        told = phase(found)
        for each in () if lines is None else lines.new():
            line(each)
        if not kind.is_under_way(found):
            break
        progress.detail(f"{found[kind.status]}{told}, {time.monotonic() - since:.0f} s")
        time.sleep(pause)
        pause = min(_LONGEST, pause * _LONGER)
    if lines is not None and (all_lines or found[kind.status] == "Failed"):
        _last(lines, line, patient=found[kind.status] == "Failed")
    return found


def stop(session: Session, kind: Kind, name: str) -> bool:
    """Ask SageMaker to stop a job; False where it had ended already.

    Raises:
        DeploymentError, ConnectError: AWS refused the call.
    """
    try:
        session.call(_SERVICE, kind.stop, **{kind.name: name})
    except AwsError as error:
        if error.code == "ValidationException" and "is in status" in error.message:
            return False
        raise
    return True


def between(start: object, end: object) -> float:
    """The seconds between two times of a description; 0 where one of them is missing."""
    if isinstance(start, dt.datetime) and isinstance(end, dt.datetime):
        return (end - start).total_seconds()
    return 0.0


def _described(session: Session, kind: Kind, name: str, progress: Progress) -> dict[str, Any]:
    for failures in range(_FAILURES + 1):
        found = _looked(session, kind, name, progress, last=failures == _FAILURES)
        if found is not None:
            return found
        time.sleep(_FIRST * 2**failures)
    raise AssertionError("the last look raises")


def _looked(session: Session, kind: Kind, name: str, progress: Progress, *, last: bool) -> dict[str, Any] | None:
    """The job as it is now; None where there was no answer, and there may be one later."""
    try:
        return session.call(_SERVICE, kind.describe, **{kind.name: name})
    except (AwsError, ConnectError) as error:
        passes = isinstance(error, ConnectError) or error.throttled or error.status >= _SERVER_ERROR
        if last or not passes:
            raise DeploymentError(
                f"it is not known how the {kind.noun} {name} is, and it goes on without us: {error}"
            ) from error
        progress.detail(f"no answer: {error}")
        return None


def _last(lines: Lines, line: Callable[[str], None], *, patient: bool) -> None:
    """The lines that come after the end, until a look finds none; ``patient`` looks wait for the first of them."""
    come = not patient
    for _ in range(_LAST_LOOKS):
        time.sleep(_LAST_PAUSE)
        new = list(lines.new())
        for each in new:
            line(each)
        if come and not new:
            return
        come = come or bool(new)
