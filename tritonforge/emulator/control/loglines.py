"""The lines of containers on their way to CloudWatch Logs: gathered, and written by one thread.

Group and stream are SageMaker's own: ``/aws/sagemaker/Endpoints/<endpoint>`` and ``<variant>/<instance id>``,
``/aws/sagemaker/TransformJobs`` and ``<job>/<instance id>-<time>``, ``/aws/sagemaker/TrainingJobs`` and
``<job>/algo-1-<time>``.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections import defaultdict
from typing import Any, Final

from tritonforge.emulator.front.moto_backend import Neighbours

__all__ = ["LogLines"]

_GROUP: Final = "/aws/sagemaker/Endpoints/"
_TRANSFORM_GROUP: Final = "/aws/sagemaker/TransformJobs"
_TRAINING_GROUP: Final = "/aws/sagemaker/TrainingJobs"

#: Seconds between two writings.
_PERIOD: Final = 0.2


class LogLines:
    """Takes lines from any thread; `close` writes what is left."""

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours
        self._lines: queue.SimpleQueue[tuple[str, str, str, int, str]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._known: set[tuple[str, str, str]] = set()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="emulator-logs", daemon=True)
        self._thread.start()

    def write(self, region: str, endpoint: str, stream: str, line: str) -> None:
        """Take one line of an endpoint's."""
        self._lines.put((region, f"{_GROUP}{endpoint}", stream, int(time.time() * 1000), line))

    def write_of_job(self, region: str, stream: str, line: str) -> None:
        """Take one line of a transform job's."""
        self._lines.put((region, _TRANSFORM_GROUP, stream, int(time.time() * 1000), line))

    def write_of_training(self, region: str, stream: str, line: str) -> None:
        """Take one line of a training job's."""
        self._lines.put((region, _TRAINING_GROUP, stream, int(time.time() * 1000), line))

    def flush(self) -> None:
        """Write what was taken so far."""
        with self._writing:
            gathered: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
            with contextlib.suppress(queue.Empty):
                while True:
                    region, group, stream, when, line = self._lines.get_nowait()
                    if line:  # CloudWatch takes no empty message
                        gathered[region, group, stream].append({"timestamp": when, "message": line})
            for place, events in gathered.items():
                self._put(*place, events)

    def close(self) -> None:
        """Write what is left, and end."""
        self._closing.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._closing.wait(_PERIOD):
            self.flush()

    def _put(self, region: str, group: str, stream: str, events: list[dict[str, Any]]) -> None:
        from botocore.exceptions import ClientError

        client = self._neighbours.client("logs", region)
        if (region, group, stream) not in self._known:
            with contextlib.suppress(ClientError):  # it is there already
                client.create_log_group(logGroupName=group)
            with contextlib.suppress(ClientError):  # as above
                client.create_log_stream(logGroupName=group, logStreamName=stream)
            self._known.add((region, group, stream))
        with contextlib.suppress(ClientError):  # somebody deleted the group: as on AWS, the lines are lost
            client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)
