"""The metrics of a job under way: gathered as its log tells them, brought to the ledger and to CloudWatch now and then.

Namespace and dimension are SageMaker's own: ``/aws/sagemaker/TrainingJobs`` and TrainingJobName. Source: SageMaker
developer guide, "Use Amazon CloudWatch Metrics to Monitor and Analyze Training Jobs".
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from tritonforge.emulator.front.moto_backend import Neighbours
from tritonforge.training.job import Measured

__all__ = ["Metrics", "published"]

NAMESPACE: Final = "/aws/sagemaker/TrainingJobs"

#: Seconds between two writings.
_PERIOD: Final = 1.0

#: The most that PutMetricData takes at once. Source: its API reference.
_MOST: Final = 1000


class Metrics:
    """The metrics of one job; `take` them from any thread. ``keep`` is given the latest of each, ``publish`` all."""

    def __init__(
        self,
        keep: Callable[[Mapping[str, Measured]], None],
        publish: Callable[[list[Measured]], None],
    ) -> None:
        self._keep = keep
        self._publish = publish
        self._guard = threading.Lock()
        self._taken: list[Measured] = []
        self._written = time.monotonic()

    def take(self, measured: Measured) -> None:
        """A value that the log has told."""
        with self._guard:
            self._taken.append(measured)
            due = time.monotonic() - self._written >= _PERIOD
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


def published(neighbours: Neighbours, region: str, job: str, taken: list[Measured]) -> None:
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
    client = neighbours.client("cloudwatch", region)
    for begin in range(0, len(data), _MOST):
        with contextlib.suppress(ClientError):  # as on AWS, a metric that is not taken stops no job
            client.put_metric_data(Namespace=NAMESPACE, MetricData=data[begin : begin + _MOST])
