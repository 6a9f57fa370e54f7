"""Loads and their results, as values: how requests are sent, until when, and what was measured. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tritonforge.profiling.estimates import (
    PERCENTILES,
    Estimate,
    count_batches,
    estimate_mean,
    estimate_percentile,
    estimate_throughput,
)
from tritonforge.profiling.statistics import ServerStatistics

__all__ = ["ClosedLoop", "ErrorCount", "GeneratorUsage", "Load", "LoadResult", "OpenLoop", "SendLag", "StopRule",
           "build_result", "find_saturation", "is_precise"]  # fmt: skip

Array = npt.NDArray[np.float64]

#: Batches without which a result is not called stable.
_ENOUGH_BATCHES: Final = 10
#: Distinct errors of a result.
_MOST_ERRORS: Final = 20


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """``concurrency`` clients that send the next request as soon as the last one was answered."""

    concurrency: int

    def __str__(self) -> str:
        return f"concurrency {self.concurrency}"


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """Requests at a rate, whether earlier ones were answered or not; ``rate`` is requests per second.

    The times between requests are drawn from the exponential distribution (``is_poisson``), as many independent clients
    send them, or are equal. Latency counts from when a request was due, so that a server that is late with one request
    is charged for those behind it (no coordinated omission).
    """

    rate: float
    is_poisson: bool = True

    def __str__(self) -> str:
        return f"rate {self.rate:g}/s{'' if self.is_poisson else ', constant'}"


Load: TypeAlias = "ClosedLoop | OpenLoop"


@dataclass(frozen=True, slots=True)
class StopRule:
    """When a measurement ends.

    Attributes:
        precision: it is stable once half of the 95 % confidence intervals of the throughput and of the median latency
            is at most this share of them.
        min_seconds: it lasts at least this long.
        max_seconds: it ends unstable after this many seconds.
        warm_up: seconds of each of the windows before the measurement; it begins when two of them in a row agree.
        min_requests: it has at least this many responses.
    """

    precision: float = 0.05
    min_seconds: float = 2.0
    max_seconds: float = 30.0
    warm_up: float = 0.5
    min_requests: int = 50


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """A sentence of the server or of the connection, and how many requests failed with it."""

    sentence: str
    count: int


@dataclass(frozen=True, slots=True)
class SendLag:
    """How late requests were sent in an open loop, in milliseconds."""

    mean: float
    p99: float
    max: float


@dataclass(frozen=True, slots=True)
class GeneratorUsage:
    """What the generator itself used: its processes, and the share of one processor that the busiest one took.

    ``cpu`` is the sum over all processes, in processors.
    """

    processes: int
    cpu: float
    busiest: float

    @property
    def is_saturated(self) -> bool:
        """Whether the generator may be what limits the throughput."""
        return self.busiest > 0.9


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What was measured under one load. Latencies are milliseconds.

    Attributes:
        load: how requests were sent.
        seconds: the length of the measurement; ``warm_up`` before it.
        requests: answers within it; ``failures`` are errors within it.
        throughput: answers per second.
        latency: the mean latency.
        percentiles: latency by percentile: 50, 90, 95, 99.
        max_latency: the longest one.
        is_stable: whether the precision of the `StopRule` was reached.
        is_interrupted: whether it was stopped from outside.
        errors: the errors, the most frequent first.
        generator: what the generator used.
        send_lag: of an open loop.
        statistics: the server's statistics between begin and end; None if the address has none.
        statistics_seconds: the time between their readings.
        latencies: all latencies in the order of the answers; ``ends`` are the seconds of the answers after the begin.
    """

    load: Load
    seconds: float
    warm_up: float
    requests: int
    failures: int
    throughput: Estimate
    latency: Estimate
    percentiles: Mapping[float, Estimate]
    max_latency: float
    is_stable: bool
    is_interrupted: bool
    errors: tuple[ErrorCount, ...]
    generator: GeneratorUsage
    send_lag: SendLag | None = None
    statistics: ServerStatistics | None = None
    statistics_seconds: float = 0.0
    latencies: Array = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)
    ends: Array = field(default_factory=lambda: np.zeros(0), repr=False, compare=False)

    @property
    def p50(self) -> float:
        """The median latency in milliseconds."""
        return self.percentiles[50.0].value

    @property
    def p99(self) -> float:
        """The 99th percentile of the latency in milliseconds."""
        return self.percentiles[99.0].value


def is_precise(times: Array, begin: float, stop: StopRule) -> bool:
    """Return whether a measurement is precise enough to end.

    Args:
        times: a row for each answer: when it was due, sent, and answered, in seconds, in the order of the answers.
        begin: when the measurement began.
        stop: the precision.
    """
    if len(times) < stop.min_requests or times[-1, 2] - begin < stop.min_seconds:
        return False
    latencies = times[:, 2] - times[:, 0]
    batches = count_batches(len(times), concurrency=_estimate_concurrency(times, begin))
    if batches < min(_ENOUGH_BATCHES, stop.min_requests // 5):
        return False
    return (
        estimate_throughput(times[:, 2], begin, batches=batches).precision <= stop.precision
        and estimate_percentile(latencies, 50.0, batches=batches).precision <= stop.precision
    )


def build_result(
    load: Load,
    times: Array,
    *,
    begin: float,
    end: float,
    warm_up: float,
    errors: Mapping[str, int],
    generator: GeneratorUsage,
    is_stable: bool,
    is_interrupted: bool = False,
    statistics: ServerStatistics | None = None,
    statistics_seconds: float = 0.0,
) -> LoadResult:
    """Return the result of a measurement; ``times`` are as for `is_precise`."""
    latencies = np.asarray((times[:, 2] - times[:, 0]) * 1000.0, dtype=np.float64)
    batches = count_batches(len(times), concurrency=_estimate_concurrency(times, begin))
    lag = np.asarray((times[:, 1] - times[:, 0]) * 1000.0, dtype=np.float64)
    counted = sorted(errors.items(), key=lambda item: (-item[1], item[0]))
    return LoadResult(
        load,
        seconds=end - begin,
        warm_up=warm_up,
        requests=len(times),
        failures=sum(errors.values()),
        throughput=estimate_throughput(times[:, 2], begin, batches=batches),
        latency=estimate_mean(latencies, batches=batches),
        percentiles={
            percentile: estimate_percentile(latencies, percentile, batches=batches) for percentile in PERCENTILES
        },
        max_latency=float(latencies.max()) if len(latencies) else 0.0,
        is_stable=is_stable,
        is_interrupted=is_interrupted,
        errors=tuple(ErrorCount(sentence, count) for sentence, count in counted[:_MOST_ERRORS]),
        generator=generator,
        send_lag=_measure_lag(lag) if isinstance(load, OpenLoop) and len(lag) else None,
        statistics=statistics,
        statistics_seconds=statistics_seconds,
        latencies=latencies,
        ends=times[:, 2] - begin,
    )


def find_saturation(results: Sequence[LoadResult]) -> LoadResult | None:
    """Return the result of the least load that reaches 95 % of the highest throughput; None without an answer."""
    answered = [result for result in results if result.requests]
    if not answered:
        return None
    best = max(result.throughput.value for result in answered)
    return next(result for result in answered if result.throughput.value >= 0.95 * best)


def _estimate_concurrency(times: Array, begin: float) -> float:
    """Return the mean number of requests at a time, from their latencies (Little's law)."""
    if not len(times) or times[-1, 2] <= begin:
        return 1.0
    return max(1.0, float((times[:, 2] - times[:, 0]).sum()) / float(times[-1, 2] - begin))


def _measure_lag(lag: Array) -> SendLag:
    return SendLag(float(lag.mean()), float(np.percentile(lag, 99)), float(lag.max()))
