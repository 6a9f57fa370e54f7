"""The lines of containers on their way to CloudWatch Logs: gathered, and written by one thread.

Group and stream are SageMaker's own: ``/aws/sagemaker/Endpoints/<endpoint>`` and ``<variant>/<instance id>``,
``/aws/sagemaker/TransformJobs`` and ``<job>/<instance id>-<time>``, ``/aws/sagemaker/TrainingJobs`` and
``<job>/algo-1-<time>``.
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

_GROUP: Final = "/aws/sagemaker/Endpoints/"
_TRANSFORM_GROUP: Final = "/aws/sagemaker/TransformJobs"
_TRAINING_GROUP: Final = "/aws/sagemaker/TrainingJobs"

#: Seconds between two writings.
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

        client = self._moto.client("logs", region)
        if (region, group, stream) not in self._known:
            with contextlib.suppress(ClientError):  # it is there already
                client.create_log_group(logGroupName=group)
            with contextlib.suppress(ClientError):  # as above
                client.create_log_stream(logGroupName=group, logStreamName=stream)
            self._known.add((region, group, stream))
        with contextlib.suppress(ClientError):  # somebody deleted the group: as on AWS, the lines are lost
            client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


_NAMESPACE: Final = "/aws/sagemaker/TrainingJobs"

#: Seconds between two writings.
_METRIC_PERIOD: Final = 1.0

#: The most that PutMetricData takes at once. Source: its API reference.
_MAX_METRICS: Final = 1000


class MetricBuffer:
    """The metrics of one job; `take` them from any thread. ``keep`` is given the latest of each, ``publish`` all."""

    def __init__(
        self,
        keep: Callable[[Mapping[str, MetricValue]], None],
        publish: Callable[[list[MetricValue]], None],
    ) -> None:
        self._keep = keep
        self._publish = publish
        self._guard = threading.Lock()
        self._taken: list[MetricValue] = []
        self._written = time.monotonic()

    def take(self, measured: MetricValue) -> None:
        """A value that the log has told."""
        with self._guard:
            self._taken.append(measured)
            due = time.monotonic() - self._written >= _METRIC_PERIOD
        if due:
            self.flush()

    def flush(self) -> None:
        """Write what was taken so far."""
        with self._guard:
            taken, self._taken = self._taken, []
            self._written = time.monotonic()
        if taken:
            self._keep({each.name: each for each in taken})
            self._publish(taken)


def publish_metrics(moto: MotoBackend, region: str, job: str, taken: list[MetricValue]) -> None:
    """Put values into CloudWatch; what is no number there (an infinite loss, say) is left out."""
    from botocore.exceptions import ClientError

    data: list[Mapping[str, Any]] = [
        {
            "MetricName": each.name,
            "Dimensions": [{"Name": "TrainingJobName", "Value": job}],
            "Timestamp": dt.datetime.fromtimestamp(each.seconds, dt.timezone.utc),
            "Value": each.value,
        }
        for each in taken
        if math.isfinite(each.value)
    ]
    client = moto.client("cloudwatch", region)
    for begin in range(0, len(data), _MAX_METRICS):
        with contextlib.suppress(ClientError):  # as on AWS, a metric that is not taken stops no job
            client.put_metric_data(Namespace=_NAMESPACE, MetricData=data[begin : begin + _MAX_METRICS])
