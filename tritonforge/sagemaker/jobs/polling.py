"""Polls a job until it has ended, and reads the lines of its log from CloudWatch Logs as they are written.

Every call here only reads. Polls are frequent at first and then rare; a poll that fails for a passing reason is
repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from tritonforge.errors import ConnectError, DeploymentError, TritonForgeError
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.jobs.kinds import JobKind
from tritonforge.sagemaker.plans.plan import Progress

__all__ = ["LogTail", "describe_job", "poll_until_ended"]

#: Seconds between two polls: short at first, then longer.
_FIRST_PAUSE: Final = 0.25
_MAX_PAUSE: Final = 10.0
_PAUSE_FACTOR: Final = 1.3
#: Polls that may fail in a row, in addition to botocore's own retries.
_MAX_FAILURES: Final = 5
_SERVER_ERROR: Final = 500

#: The last lines of a log come seconds after the status: how often they are read, and the seconds before each time.
_LAST_READS: Final = 3
_LAST_PAUSE: Final = 1.0

#: Lines that are read of a stream at a time: a busy container writes more than anyone reads.
_MAX_LINES: Final = 1000


class LogTail:
    """The lines of a job's log that were not read yet.

    Logs only supplement a job's status: if they cannot be read, there are no lines.
    """

    def __init__(self, session: Session, kind: JobKind, job: str) -> None:
        self._session = session
        self._kind = kind
        self._job = job
        self._tokens: dict[str, str] = {}

    def read_new(self) -> Iterator[str]:
        """Yield the lines since the last call, those of a stream together and in order."""
        if not self._kind.log_group:
            return
        try:
            for stream in self._list_streams():
                yield from self._read_stream(stream)
        except (TritonForgeError, KeyError):
            return

    def _list_streams(self) -> list[str]:
        group = self._kind.log_group
        pages = self._session.paginate(
            "logs", "DescribeLogStreams", resource=group, logGroupName=group, logStreamNamePrefix=f"{self._job}/"
        )
        names = [str(stream["logStreamName"]) for page in pages for stream in page.get("logStreams", ())]
        return [name for name in names if name.endswith(self._kind.log_suffix)]

    def _read_stream(self, stream: str) -> Iterator[str]:
        count = 0
        while count < _MAX_LINES:
            token = self._tokens.get(stream)
            position: dict[str, Any] = {} if token is None else {"nextToken": token}
            page = self._session.call(
                "logs",
                "GetLogEvents",
                resource=self._kind.log_group,
                logGroupName=self._kind.log_group,
                logStreamName=stream,
                startFromHead=True,
                **position,
            )
            events = page.get("events", ())
            for event in events:
                yield str(event.get("message", "")).rstrip()
            count += len(events)
            following = str(page.get("nextForwardToken", ""))
            if following:
                self._tokens[stream] = following
            if not events or following in ("", token):  # API GetLogEvents: at the end the same token comes back
                return


def poll_until_ended(
    session: Session,
    kind: JobKind,
    name: str,
    *,
    progress: Progress,
    format_phase: Callable[[Mapping[str, Any]], str],
    on_line: Callable[[str], None] = lambda text: None,
    all_lines: bool = False,
) -> dict[str, Any]:
    """Poll a job until it has ended and return its last description.

    Args:
        session: calls AWS.
        kind: the kind of the job.
        name: the job's name or ARN.
        progress: shows the status.
        format_phase: called with every description; returns what is shown after the status.
        on_line: called with the lines of the log.
        all_lines: wait for the lines that come after the end, which otherwise is done for a failed job only.

    Raises:
        DeploymentError, ConnectError: AWS does not return the job's status.
    """
    log = LogTail(session, kind, name)
    started, pause = time.monotonic(), _FIRST_PAUSE
    while True:
        description = describe_job(session, kind, name, progress)
        phase = format_phase(description)
        for line in log.read_new():
            on_line(line)
        if kind.has_ended(description):
            break
        progress.detail(f"{description[kind.status]}{phase}, {time.monotonic() - started:.0f} s")
        session.sleep(pause)
        pause = min(_MAX_PAUSE, pause * _PAUSE_FACTOR)
    has_failed = description[kind.status] == "Failed"
    if kind.log_group and (all_lines or has_failed):
        _read_last_lines(session, log, on_line, wait=has_failed)
    return description


def describe_job(session: Session, kind: JobKind, name: str, progress: Progress) -> dict[str, Any]:
    """Return the description of a job; repeat a call that fails for a passing reason.

    Raises:
        DeploymentError: AWS does not return it.
    """
    failures = 0
    while True:
        try:
            return session.call("sagemaker", kind.describe, **{kind.name: name})
        except (AwsError, ConnectError) as error:
            is_passing = isinstance(error, ConnectError) or error.throttled or error.status >= _SERVER_ERROR
            if failures == _MAX_FAILURES or not is_passing:
                raise DeploymentError(
                    f"cannot read the status of {kind.noun} {name}; it may still be running: {error}"
                ) from error
            progress.detail(f"no response: {error}")
        session.sleep(_FIRST_PAUSE * 2**failures)
        failures += 1


def _read_last_lines(session: Session, log: LogTail, on_line: Callable[[str], None], *, wait: bool) -> None:
    """Read the lines that come after the end, until there are no more; with ``wait`` the first ones may be late."""
    have_come = not wait
    for _ in range(_LAST_READS):
        session.sleep(_LAST_PAUSE)
        lines = list(log.read_new())
        for line in lines:
            on_line(line)
        if have_come and not lines:
            return
        have_come = have_come or bool(lines)
