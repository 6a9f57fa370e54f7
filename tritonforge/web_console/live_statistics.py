"""The figures of a server while a page looks at them: readings of its statistics, differences, history. No I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tritonforge.errors import DecodeError
from tritonforge.profiling.bottleneck import find_bottleneck
from tritonforge.profiling.statistics import ServerStatistics, merge_versions, subtract_statistics
from tritonforge.profiling.step_times import Calls, RequestTime, StepTime, compute_request_time

__all__ = ["LiveStatistics"]

Document = dict[str, Any]

#: Seconds between two readings, however many pages there are; readings and points that are kept.
_INTERVAL: Final = 0.9
_READINGS: Final = 11
_POINTS: Final = 180
#: Seconds after which a reading is too old to be compared with: no page was open.
_PAUSE: Final = 10.0
#: Requests that a sentence about the bottleneck needs, and those with which no older reading is used.
_ENOUGH: Final = 2
_MANY: Final = 20


class LiveStatistics:
    """Keeps the last readings, and a point of the history of every model for each of them; nothing else grows."""

    def __init__(self, configs: Mapping[str, Any], models: Sequence[str], *, calls: Calls) -> None:
        self._configs = configs
        self._calls = calls
        self._models = models
        self._readings: deque[tuple[float, ServerStatistics]] = deque(maxlen=_READINGS)
        self._points: dict[str, deque[Document]] = {model: deque(maxlen=_POINTS) for model in models}

    def needs_reading(self, now: float) -> bool:
        """Return True if the last reading is old enough for a new one; ``now`` is in seconds of a clock."""
        return not self._readings or now - self._readings[-1][0] >= _INTERVAL

    def add(self, reading: ServerStatistics, now: float) -> None:
        """Add a reading at a time."""
        if self._readings and now - self._readings[-1][0] > _PAUSE:
            self._readings.clear()
        if self._readings:
            before, earlier = self._readings[-1]
            try:
                counted = merge_versions(subtract_statistics(reading, earlier))
            except DecodeError:  # a model was loaded again
                self._readings.clear()
                counted = {}
            for model in self._models:
                statistics = counted.get(model)
                count = 0 if statistics is None else statistics.success.count
                self._points[model].append(
                    {
                        "time": round(now, 2),
                        "requests_per_second": round(count / (now - before), 3),
                        "milliseconds": round(statistics.success.mean, 3) if statistics is not None and count else None,
                        "failures": 0 if statistics is None else statistics.failure.count,
                    }
                )
        self._readings.append((now, reading))

    def describe(self, model: str) -> Document:
        """Return the figures of a model: its ``steps``, ``bottleneck`` and ``history``, and ``called``.

        ``called`` are the models that code requests on its behalf; their times are part of those of the steps.
        They are of the last 2 seconds if the model got many requests, else of up to 10 seconds.
        """
        ended, after = self._readings[-1]
        began, before = self._choose_reading(model)
        seconds = ended - began
        document: Document = {"seconds": seconds, "history": list(self._points[model]), "interval": _INTERVAL}
        if seconds <= 0:
            return document | {"requests_per_second": 0.0, "milliseconds": None, "failures": 0, "steps": [],
                               "called": [], "bottleneck": None}  # fmt: skip
        counted = subtract_statistics(after, before)
        times = compute_request_time(self._configs, model, counted, seconds=seconds, calls=self._calls)
        return document | {
            "requests_per_second": times.requests / seconds,
            "milliseconds": times.total if times.requests else None,
            "overhead": times.overhead,
            "failures": times.failures,
            "steps": [_describe_step(step, seconds) for step in times.steps],
            "called": [
                {**_describe_step(step, seconds), "callers": list(called.callers)}
                for called in times.called
                if called.callers
                for step in called.steps
            ],
            "bottleneck": _describe_bottleneck(times, self._configs),
        }

    def _choose_reading(self, model: str) -> tuple[float, ServerStatistics]:
        """Return the reading that the last one is compared with."""
        last = _count_requests(self._readings[-1][1], model)
        older = list(self._readings)[-3::-1]
        enough = (reading for reading in older if last - _count_requests(reading[1], model) >= _MANY)
        return next(enough, self._readings[0])


def _count_requests(statistics: ServerStatistics, model: str) -> int:
    return sum(entry.requests for (name, _), entry in statistics.items() if name == model)


def _describe_step(step: StepTime, seconds: float) -> Document:
    return {
        "name": step.name,
        "requests_per_second": step.requests / seconds,
        "failures": step.failures,
        "queue": step.queue,
        "compute": step.compute_input + step.compute_infer + step.compute_output,
        "calls": step.calls,
        "batch_size": step.mean_batch_size,
        "utilization": step.utilization,
        "instances": step.instances,
    }


def _describe_bottleneck(times: RequestTime, configs: Mapping[str, Any]) -> Document | None:
    if times.requests < _ENOUGH:
        return None
    bottleneck = find_bottleneck(times, configs)
    if bottleneck is None:
        return None
    return {"step": bottleneck.step, "sentence": bottleneck.sentence, "advice": list(bottleneck.advice)}
