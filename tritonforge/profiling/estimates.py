"""Estimates of a load's figures with confidence intervals. This module does no I/O.

Requests that follow one another are not independent: what slows one request slows the next ones as well. So the
measurement is cut into consecutive batches with equally many responses, and the spread of the batches' figures gives
the interval (non-overlapping batch means; Law, Simulation Modeling and Analysis, 9.5.3). A batch has at least twice as
many responses as there are requests at a time, so that batches are nearly independent.

The interval of a percentile comes from the share of responses below it: that share has a mean in every batch, and the
ends of its interval are read from the sorted latencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["PERCENTILES", "Estimate", "count_batches", "estimate_mean", "estimate_percentile", "estimate_throughput",
           "get_student_t"]  # fmt: skip

Array = npt.NDArray[np.float64]

#: The percentiles of a result.
PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0)

_MOST_BATCHES: Final = 30
_FEWEST_RESPONSES: Final = 5  # of a batch

#: Student's t for 95 % (two-sided) by degrees of freedom; beyond the table, the last row is used, which is wider.
_T: Final = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 11: 2.201,
    12: 2.179, 13: 2.160, 14: 2.145, 15: 2.131, 16: 2.120, 17: 2.110, 18: 2.101, 19: 2.093, 20: 2.086, 21: 2.080,
    22: 2.074, 23: 2.069, 24: 2.064, 25: 2.060, 26: 2.056, 27: 2.052, 28: 2.048, 29: 2.045,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, and the 95 % confidence interval from ``low`` to ``high``; both are None with too few responses."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def precision(self) -> float:
        """Half of the interval's width as a share of the value; infinite without an interval."""
        if self.low is None or self.high is None or not self.value:
            return math.inf
        return (self.high - self.low) / 2 / abs(self.value)


def get_student_t(degrees: int) -> float:
    """Return Student's t for two-sided 95 % confidence; ``degrees`` of freedom are at least 1."""
    return _T[min(degrees, max(_T))]


def count_batches(responses: int, *, concurrency: float = 1) -> int:
    """Return into how many batches the responses of a measurement are cut; fewer than 2 give no interval.

    Args:
        responses: how many there are.
        concurrency: the mean number of requests at a time.
    """
    return min(_MOST_BATCHES, int(responses // max(_FEWEST_RESPONSES, 2 * concurrency)))


def estimate_throughput(ends: Array, begin: float, *, batches: int) -> Estimate:
    """Return responses per second.

    Args:
        ends: when responses arrived, in seconds, ascending.
        begin: when the measurement began.
        batches: how many batches, as `count_batches` returns it.
    """
    count = len(ends)
    if not count or ends[-1] <= begin:
        return Estimate(0.0)
    value = count / float(ends[-1] - begin)
    if batches < 2:
        return Estimate(value)
    marks = np.linspace(0, count, batches + 1).round().astype(int)
    times = np.concatenate(([begin], ends[marks[1:] - 1]))
    # The mean time between responses is the figure whose batch means are averaged; its inverse is the throughput.
    gaps = np.diff(times) / np.diff(marks)
    mean, half = _interval(gaps)
    return Estimate(value, *((1 / (mean + half), 1 / max(mean - half, mean / 100)) if mean > 0 else (None, None)))


def estimate_mean(values: Array, *, batches: int) -> Estimate:
    """Return the mean of values in the order of their measurement."""
    if not len(values):
        return Estimate(0.0)
    value = float(values.mean())
    if batches < 2:
        return Estimate(value)
    _, half = _interval(_batch_means(values, batches))
    return Estimate(value, value - half, value + half)


def estimate_percentile(values: Array, percentile: float, *, batches: int) -> Estimate:
    """Return a percentile, from 0 to 100, of values in the order of their measurement.

    An end of the interval that lies beyond the smallest or largest value is that value.
    """
    if not len(values):
        return Estimate(0.0)
    ordered = np.sort(values)
    value = float(np.percentile(ordered, percentile))
    if batches < 2:
        return Estimate(value)
    share, half = _interval(_batch_means((values <= value).astype(np.float64), batches))
    # Batches alone underestimate the spread of a share that few responses decide; it is at least the binomial one.
    half = max(half, 1.96 * math.sqrt(max(share * (1 - share), 0.0) / len(values)))
    low, high = (
        float(np.percentile(ordered, min(100.0, max(0.0, percentile + sign * 100 * half)))) for sign in (-1, 1)
    )
    return Estimate(value, low, high)


def _batch_means(values: Array, batches: int) -> Array:
    marks = np.linspace(0, len(values), batches + 1).round().astype(int)
    sums: Any = np.add.reduceat(values, marks[:-1])
    means: Array = sums / np.diff(marks)
    return means


def _interval(means: Array) -> tuple[float, float]:
    """Return the mean of batch means, and half of its interval's width."""
    count = len(means)
    spread = float(means.std(ddof=1)) / math.sqrt(count)
    return float(means.mean()), get_student_t(count - 1) * spread
