"""The last lines that an endpoint's containers wrote to CloudWatch Logs. Every call here only reads."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Final

from tritonforge.errors import TritonForgeError
from tritonforge.sagemaker.client.errors import AwsError
from tritonforge.sagemaker.client.session import Session

__all__ = ["last_lines"]

_STREAMS: Final = 2
_LINES: Final = 15
#: Lines come to CloudWatch some seconds after they were written: how often to look again, and the pause in seconds.
_LOOKS: Final = 4
_PAUSE: Final = 1.0


def last_lines(session: Session, endpoint: str, *, since: float = 0.0) -> list[str]:
    """The last lines of the newest streams, each stream with a heading; none where there are none to be had.

    Looks again for a while where there is none after ``since`` (seconds since 1970). They are a help beside an error
    that is told anyway, so nothing that goes wrong here hides that error.
    """
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    found: list[str] = []
    with contextlib.suppress(TritonForgeError, KeyError):
        for look in range(_LOOKS):
            streams = _streams(session, group)
            if any(event.get("timestamp", 0) >= since * 1000 for _, events in streams for event in events):
                break
            if look < _LOOKS - 1:
                time.sleep(_PAUSE)
        for name, events in streams:
            lines = [f"    {str(each.get('message', '')).rstrip()}" for each in events]
            found.append("\n".join([f"the last lines of {group} {name}:", *lines]))
    return found


def _streams(session: Session, group: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """The newest streams that have lines, and their last; none while there is no group yet."""
    try:
        answer = session.call(
            "logs",
            "DescribeLogStreams",
            resource=group,
            logGroupName=group,
            orderBy="LastEventTime",
            descending=True,
            limit=_STREAMS,
        )
    except AwsError as error:
        if error.code == "ResourceNotFoundException":
            return []
        raise
    found: list[tuple[str, list[dict[str, Any]]]] = []
    for stream in answer.get("logStreams", ()):
        events = session.call(
            "logs",
            "GetLogEvents",
            resource=group,
            logGroupName=group,
            logStreamName=stream["logStreamName"],
            limit=_LINES,
            startFromHead=False,
        ).get("events", ())
        if events:
            found.append((stream["logStreamName"], list(events)))
    return found
