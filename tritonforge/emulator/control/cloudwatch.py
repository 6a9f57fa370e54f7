"""Log lines and metrics on their way to CloudWatch: buffered, and written by one thread.

Groups and streams are SageMaker's own: ``/aws/sagemaker/Endpoints/<endpoint>`` and ``<variant>/<instance id>``,
``/aws/sagemaker/TransformJobs`` and ``<job>/<instance id>-<time>``, ``/aws/sagemaker/TrainingJobs`` and
``<job>/algo-1-<time>``. Source of the metrics' namespace and dimension: SageMaker developer guide, "Use Amazon
CloudWatch Metrics to Monitor and Analyze Training Jobs".
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final

from tritonforge.emulator.front.moto_backend import MotoBackend
from tritonforge.training.job import MetricValue

__all__ = ["LogWriter", "MetricBuffer", "publish_metrics"]

#: Seconds between two writes.
_PERIOD: Final = 0.2


class LogWriter:
    """Takes lines from any thread; `close` writes what is left."""

    def __init__(self, moto: MotoBackend) -> None:
        self._moto = moto
        self._lines: queue.SimpleQueue[tuple[str, str, str, int, str]] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._known: set[tuple[str, str, str]] = set()
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="emulator-logs", daemon=True)
        self._thread.start()

    def write(self, region: str, group: str, stream: str, line: str) -> None:
        """Take one line of a log."""
        self._lines.put((region, group, stream, int(time.time() * 1000), line))

    def flush(self) -> None:
        """Write the lines that were taken."""
        with self._writing:
            buffered: dict[tuple[str, str, str], list[dict[str, Any]]] = defaultdict(list)
            with contextlib.suppress(queue.Empty):
                while True:
                    region, group, stream, when, line = self._lines.get_nowait()
                    if line:  # CloudWatch takes no empty message
                        buffered[region, group, stream].append({"timestamp": when, "message": line})
            for place, events in buffered.items():
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

        client = self._moto.client("logs", region)
        if (region, group, stream) not in self._known:
            with contextlib.suppress(ClientError):  # it exists already
                client.create_log_group(logGroupName=group)
            with contextlib.suppress(ClientError):  # as above
                client.create_log_stream(logGroupName=group, logStreamName=stream)
            self._known.add((region, group, stream))
        with contextlib.suppress(ClientError):  # the group was deleted: as on AWS, the lines are lost
            client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


_NAMESPACE: Final = "/aws/sagemaker/TrainingJobs"

#: Seconds between two writes.
_METRIC_PERIOD: Final = 1.0

#: The most that PutMetricData takes at once. Source: its API reference.
_MAX_METRICS: Final = 1000


class MetricBuffer:
    """The metrics of one job; `take` them from any thread. ``keep`` gets the latest of each, ``publish`` all."""

    def __init__(
        self, keep: Callable[[Mapping[str, MetricValue]], object], publish: Callable[[list[MetricValue]], None]
    ) -> None:
        self._keep = keep
        self._publish = publish
        self._guard = threading.Lock()
        self._values: list[MetricValue] = []
        self._written = time.monotonic()

    def take(self, value: MetricValue) -> None:
        """Take a value that was read from the log."""
        with self._guard:
            self._values.append(value)
            is_due = time.monotonic() - self._written >= _METRIC_PERIOD
        if is_due:
            self.flush()

    def flush(self) -> None:
        """Write the values that were taken."""
        with self._guard:
            values, self._values = self._values, []
            self._written = time.monotonic()
        if values:
            self._keep({value.name: value for value in values})
            self._publish(values)


def publish_metrics(moto: MotoBackend, region: str, job: str, values: list[MetricValue]) -> None:
    """Put values into CloudWatch, except those that it does not take (an infinite loss, for example)."""
    from botocore.exceptions import ClientError

    data: list[Mapping[str, Any]] = [
        {
            "MetricName": value.name,
            "Dimensions": [{"Name": "TrainingJobName", "Value": job}],
            "Timestamp": dt.datetime.fromtimestamp(value.seconds, dt.timezone.utc),
            "Value": value.value,
        }
        for value in values
        if math.isfinite(value.value)
    ]
    client = moto.client("cloudwatch", region)
    for begin in range(0, len(data), _MAX_METRICS):
        with contextlib.suppress(ClientError):  # as on AWS, a metric that is refused stops no job
            client.put_metric_data(Namespace=_NAMESPACE, MetricData=data[begin : begin + _MAX_METRICS])
