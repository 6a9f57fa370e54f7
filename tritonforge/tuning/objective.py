"""The objective of a search: the largest throughput below a latency, or the smallest latency at a rate. No I/O."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Final, Literal, TypeAlias

from tritonforge.profiling.estimates import get_student_t

__all__ = ["Comparison", "Goal", "Measurement", "Objective", "compare_measurements"]

Goal: TypeAlias = Literal["throughput", "latency"]

#: The share of the requested rate that a server answers if it keeps up. Random arrivals vary by the square root of
#: their number; a server that falls behind shows in the latency, which counts from when a request is due.
_KEPT_UP: Final = 0.75
#: How steeply a point beyond a limit is worse; a search then leads back to the limit.
_PENALTY: Final = 3

#: A smaller gain is not worth a change of settings.
_WORTHWHILE: Final = 1.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a load saw at one point: answers per second, latencies in milliseconds, and the fraction of errors."""

    throughput: float
    p50: float
    p99: float
    errors: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """What is optimized.

    Attributes:
        goal: ``throughput`` must be large, or ``latency``, the 99th percentile, small.
        p99: the limit of the 99th percentile in milliseconds for ``throughput``; None without one.
        rate: the requests per second at which ``latency`` is measured.
    """

    goal: Goal
    p99: float | None = None
    rate: float | None = None

    @property
    def unit(self) -> str:
        """The unit of `get_figure`."""
        return "requests/s" if self.goal == "throughput" else "ms p99"

    def get_figure(self, measurement: Measurement) -> float:
        """Return the figure that is optimized."""
        return measurement.throughput if self.goal == "throughput" else measurement.p99

    def is_met(self, measurement: Measurement) -> bool:
        """Return True if a measurement is within the limits."""
        return not measurement.errors and self._measure_excess(measurement) <= 1

    def score(self, measurement: Measurement) -> float:
        """Return how good a measurement is: above 0, larger is better; beyond a limit less than without it."""
        if measurement.errors or measurement.throughput <= 0:
            return 0.0
        gain = measurement.throughput if self.goal == "throughput" else 1000 / measurement.p99
        return gain / max(1.0, self._measure_excess(measurement)) ** _PENALTY

    def describe(self) -> str:
        """Return the objective as a phrase."""
        if self.goal == "latency":
            return f"the smallest p99 at {self.rate:g} requests/s"
        return "the largest throughput" if self.p99 is None else f"the largest throughput with p99 <= {self.p99:g} ms"

    def describe_miss(self, measurements: Sequence[Measurement]) -> str:
        """Return how far measurements, none of which is within the limits, are from them, as a sentence."""
        answered = [entry for entry in measurements if not entry.errors and entry.throughput > 0]
        if not answered:
            return "requests fail with all settings that were measured"
        if self.goal == "latency":
            most = max(entry.throughput for entry in answered)
            return f"no settings keep up with {self.rate:g} requests/s: the most answered were {most:.1f} requests/s"
        least = min(entry.p99 for entry in answered)
        return f"no settings keep p99 <= {self.p99:g} ms: the smallest p99 was {least:.1f} ms"

    def _measure_excess(self, measurement: Measurement) -> float:
        if self.goal == "latency":
            return (self.rate or 0.0) * _KEPT_UP / measurement.throughput
        return 0.0 if self.p99 is None else measurement.p99 / self.p99


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much better the scores of ``after`` are: a ratio with its 95 % interval, from pairs measured in turn.

    ``is_gain`` is True if all of the interval is above 1, the ratio is at least 1.02, and the later measurements are
    within the limits.
    """

    ratio: float
    low: float
    high: float
    pairs: int
    is_within_limits: bool

    @property
    def is_gain(self) -> bool:
        """Whether the gain is more than noise, and worth a change."""
        return self.low > 1 and self.ratio >= _WORTHWHILE and self.is_within_limits


def compare_measurements(
    before: Sequence[Measurement], after: Sequence[Measurement], objective: Objective
) -> Comparison:
    """Compare measurements that were made in turn; the interval is Student's, of the logarithms of the ratios.

    ``is_within_limits`` looks at the mean of the later measurements: a single one may be beyond the limit.
    """
    pairs = [(objective.score(first), objective.score(second)) for first, second in zip(before, after, strict=True)]
    mean_after = Measurement(
        throughput=fmean(entry.throughput for entry in after),
        p50=fmean(entry.p50 for entry in after),
        p99=fmean(entry.p99 for entry in after),
        errors=max(entry.errors for entry in after),
    )
    is_met = objective.is_met(mean_after)
    if any(second <= 0 for _, second in pairs):
        return Comparison(0.0, 0.0, 0.0, len(pairs), is_within_limits=False)
    if any(first <= 0 for first, _ in pairs):
        return Comparison(math.inf, 1.0, math.inf, len(pairs), is_within_limits=is_met)
    logarithms = [math.log(second / first) for first, second in pairs]
    mean = fmean(logarithms)
    if len(pairs) < 2:
        return Comparison(math.exp(mean), 0.0, math.inf, len(pairs), is_within_limits=is_met)
    width = get_student_t(len(pairs) - 1) * stdev(logarithms) / math.sqrt(len(pairs))
    return Comparison(
        math.exp(mean), math.exp(mean - width), math.exp(mean + width), len(pairs), is_within_limits=is_met
    )
