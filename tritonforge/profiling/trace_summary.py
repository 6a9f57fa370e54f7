"""The summary of a trace file: the time of every step, and the slowest requests, in bounded memory. No I/O."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.profiling.traces import PHASES, Execution, PhaseName, RequestTrace

__all__ = ["StepSummary", "TraceSummary", "describe_execution", "list_executions_with_rest", "summarize_traces"]

#: The width of a bin of the histogram of durations: a percentile is exact to one percent.
_RATIO: Final = math.log(1.02)

#: Steps that are kept apart; executions of further ones are counted only.
_MOST_STEPS: Final = 1000


@dataclass(frozen=True, slots=True)
class StepSummary:
    """All executions of one model at one place: ``path`` has the models from the one that clients name to this one.

    Durations are in nanoseconds. ``phases`` has the average of each phase over the executions that have it; ``rest`` is
    the average time that neither a phase nor a step explains. Percentiles are exact to one percent.
    """

    path: tuple[str, ...]
    count: int
    mean: float
    p50: float
    p99: float
    maximum: int
    phases: Mapping[PhaseName, float]
    rest: float


@dataclass(frozen=True, slots=True)
class TraceSummary:
    """The steps in the order in which they were first seen under their ensemble, and the slowest requests."""

    requests: int
    steps: tuple[StepSummary, ...]
    slowest: tuple[RequestTrace, ...]
    uncounted: int


class _Tally:
    """Durations of a step."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.rest = 0
        self.maximum = 0
        self.bins: dict[int, int] = {}
        self.phases: dict[PhaseName, tuple[int, int]] = {}

    def add(self, execution: Execution, rest: int) -> None:
        duration = execution.duration
        self.count += 1
        self.total += duration
        self.rest += rest
        self.maximum = max(self.maximum, duration)
        place = round(math.log(duration) / _RATIO) if duration > 0 else -1
        self.bins[place] = self.bins.get(place, 0) + 1
        for phase in execution.phases:
            count, total = self.phases.get(phase.name, (0, 0))
            self.phases[phase.name] = count + 1, total + phase.end - phase.begin

    def find_percentile(self, share: float) -> float:
        wanted, passed = math.ceil(share * self.count), 0
        for place in sorted(self.bins):
            passed += self.bins[place]
            if passed >= wanted:
                return min(math.exp(place * _RATIO), self.maximum) if place >= 0 else 0.0
        return float(self.maximum)


def summarize_traces(traces: Iterable[RequestTrace], *, slowest: int) -> TraceSummary:
    """Return the summary of requests; ``slowest`` is how many of the slowest requests are kept."""
    tallies: dict[tuple[str, ...], _Tally] = {}
    heap: list[tuple[int, int, RequestTrace]] = []
    number = uncounted = 0
    for trace in traces:
        number += 1
        entry = (trace.duration, -number, trace)
        if len(heap) < slowest:
            heapq.heappush(heap, entry)
        elif heap and entry[:2] > heap[0][:2]:
            heapq.heapreplace(heap, entry)
        path: list[str] = []
        for execution, rest in list_executions_with_rest(trace):
            del path[execution.depth :]
            path.append(execution.model)
            key = tuple(path)
            if key not in tallies and len(tallies) >= _MOST_STEPS:
                uncounted += 1
                continue
            tallies.setdefault(key, _Tally()).add(execution, rest)
    order = {path: place for place, path in enumerate(tallies)}
    paths = sorted(tallies, key=lambda path: [order.get(path[:length], 0) for length in range(1, len(path) + 1)])
    steps = tuple(_close_tally(path, tallies[path]) for path in paths)
    return TraceSummary(number, steps, tuple(trace for _, _, trace in sorted(heap, reverse=True)), uncounted)


def _close_tally(path: tuple[str, ...], tally: _Tally) -> StepSummary:
    phases = {name: tally.phases[name][1] / tally.phases[name][0] for name in PHASES if name in tally.phases}
    return StepSummary(
        path,
        tally.count,
        tally.total / tally.count,
        tally.find_percentile(0.5),
        tally.find_percentile(0.99),
        tally.maximum,
        phases,
        tally.rest / tally.count,
    )


def list_executions_with_rest(trace: RequestTrace) -> Iterator[tuple[Execution, int]]:
    """Yield every execution with the nanoseconds in it that belong neither to a phase nor to a step of it."""
    steps: dict[int | None, list[tuple[int, int]]] = {}
    for execution in trace.executions[1:]:
        steps.setdefault(execution.parent_id, []).append((execution.begin, execution.end))
    for execution in trace.executions:
        parts = [(phase.begin, phase.end) for phase in execution.phases] + steps.get(execution.id, [])
        yield execution, execution.duration - _measure_union(parts, execution.begin, execution.end)


def _measure_union(parts: list[tuple[int, int]], begin: int, end: int) -> int:
    """Return how much of the time from ``begin`` to ``end`` the parts cover; they may overlap."""
    covered, reached = 0, begin
    for first, last in sorted(parts):
        first, last = max(first, reached), min(last, end)
        if last > first:
            covered += last - first
            reached = last
    return covered


def describe_execution(execution: Execution, rest: int, origin: int) -> dict[str, Any]:
    """Return an execution as a JSON object; times are in milliseconds after ``origin``."""
    return {
        "model": execution.model,
        "version": execution.version,
        "depth": execution.depth,
        "begin_ms": round((execution.begin - origin) / 1e6, 6),
        "duration_ms": round(execution.duration / 1e6, 6),
        "phases_ms": {phase.name: round((phase.end - phase.begin) / 1e6, 6) for phase in execution.phases},
        "rest_ms": round(rest / 1e6, 6),
    }
