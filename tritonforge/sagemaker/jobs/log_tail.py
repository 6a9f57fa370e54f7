"""The lines that a job writes to CloudWatch Logs, as they come. Every call here only reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from tritonforge.errors import TritonForgeError
from tritonforge.sagemaker.client.session import Session

__all__ = ["Lines"]

#: Lines that one look takes of a stream at most: a busy container writes more than anyone reads.
_MOST: Final = 1000


def _any(_: str) -> bool:
    return True


class Lines:
    """The lines of one job in a log group that were not given yet; ``wanted`` chooses among its streams by name.

    Logs are a help beside the job's own status, so whatever goes wrong with them is passed over.
    """

    def __init__(self, session: Session, group: str, job: str, *, wanted: Callable[[str], bool] = _any) -> None:
        self._session = session
        self._group = group
        self._job = job
        self._wanted = wanted
        self._tokens: dict[str, str] = {}

    def new(self) -> Iterator[str]:
        """The lines since the last time, those of a stream together and in order."""
        try:
            for stream in self._streams():
                yield from self._of(stream)
        except (TritonForgeError, KeyError):
            return

    def _streams(self) -> list[str]:
        pages = self._session.paginate(
            "logs",
            "DescribeLogStreams",
            resource=self._group,
            logGroupName=self._group,
            logStreamNamePrefix=f"{self._job}/",
        )
        names = [str(each["logStreamName"]) for page in pages for each in page.get("logStreams", ())]
        return [name for name in names if self._wanted(name)]

    def _of(self, stream: str) -> Iterator[str]:
        given = 0
        while given < _MOST:
            token = self._tokens.get(stream)
            more: dict[str, Any] = {} if token is None else {"nextToken": token}
            answer = self._session.call(
                "logs",
                "GetLogEvents",
                resource=self._group,
                logGroupName=self._group,
                logStreamName=stream,
                startFromHead=True,
                **more,
            )
            events = answer.get("events", ())
            for each in events:
                yield str(each.get("message", "")).rstrip()
            given += len(events)
            following = str(answer.get("nextForwardToken", ""))
            if following:
                self._tokens[stream] = following
            if not events or following in ("", token):  # API GetLogEvents: at the end the same token comes back
                return
