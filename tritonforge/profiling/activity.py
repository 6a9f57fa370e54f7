"""The activity of a server between two readings: a row for every model, and for every step below its ensemble. No I/O.

Triton counts for each model, not for each ensemble: a step that several ensembles share has the same figures below all
of them, and so has a model that clients also request directly; such a row is marked as shared. A model that a Python
model's code requests (BLS) is a row below that model where the repository is known, else a row of its own.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from tritonforge.errors import CaseError, DecodeError
from tritonforge.golden_tests.data_flow import list_steps
from tritonforge.profiling.bottleneck import Bottleneck, find_bottleneck
from tritonforge.profiling.metrics import ServerMetrics
from tritonforge.profiling.statistics import (
    ModelStatistics,
    ServerStatistics,
    merge_versions,
    subtract_statistics,
)
from tritonforge.profiling.step_times import Calls, compute_request_time, count_instances, find_reached_models

__all__ = ["ActivityHistory", "ActivityRow", "ModelActivity", "ServerActivity", "ServerReading", "compute_activity"]

#: The depth of a row below which calls of code are not listed.
_DEEPEST: Final = 16


@dataclass(frozen=True, slots=True)
class ServerReading:
    """What a server reported at one time.

    Attributes:
        time: in seconds of a monotonic clock.
        statistics: the counts of all models.
        configs: the ModelConfig messages of all models.
        metrics: None if the server has none, or none at a known address.
    """

    time: float
    statistics: ServerStatistics
    configs: Mapping[str, Any]
    metrics: ServerMetrics | None = None


@dataclass(frozen=True, slots=True)
class ActivityRow:
    """A model or a step in an interval.

    Attributes:
        name: the step's name in its ensemble, or the model's.
        depth: 0 for a model that is not a step, 1 for its steps, 2 for steps of a nested ensemble and for models that
            the code of a step requests.
        rate: requests that ended per second, failed ones included.
        failures: requests that failed in the interval.
        failures_since_load: requests that failed since the model was loaded.
        queue: milliseconds that a request waited, on average; None for an ensemble, and without a request.
        compute: milliseconds of copying inputs, computing and copying outputs; None as for ``queue``.
        total: milliseconds from the arrival of a request in Triton's core to its answer; None without a request.
        batches: executions by batch size.
        utilization: the share of the time in which its instances were busy; None for an ensemble.
        pending: requests that wait for execution now; None without metrics.
        is_bottleneck: the step limits its model.
        is_shared: the figures include other requests than those of the model above.
        is_called: the code of the model above requests it: its time is part of that model's computation.
    """

    name: str
    model: str
    depth: int
    is_ensemble: bool
    rate: float
    failures: int
    failures_since_load: int
    queue: float | None
    compute: float | None
    total: float | None
    batches: Mapping[int, int]
    utilization: float | None
    pending: int | None
    is_bottleneck: bool = False
    is_shared: bool = False
    is_called: bool = False

    @property
    def mean_batch_size(self) -> float | None:
        """The mean batch size of the executions; None without one."""
        executions = sum(self.batches.values())
        return sum(size * count for size, count in self.batches.items()) / executions if executions else None


@dataclass(frozen=True, slots=True)
class ModelActivity:
    """A model that is not a step of another one: its row, those of its steps, and what limits it."""

    rows: tuple[ActivityRow, ...]
    bottleneck: Bottleneck | None = None


@dataclass(frozen=True, slots=True)
class ServerActivity:
    """A server in an interval of ``seconds``; models in the order of their names."""

    seconds: float
    models: tuple[ModelActivity, ...]
    metrics: ServerMetrics | None = None


def compute_activity(
    before: ServerReading, after: ServerReading, calls: Calls = MappingProxyType({})
) -> ServerActivity:
    """Return what happened between two readings; ``calls`` are the models that the code of each model requests.

    Raises:
        DecodeError: a model was loaded again between them.
    """
    seconds = max(after.time - before.time, 1e-9)
    builder = _Builder(after, subtract_statistics(after.statistics, before.statistics), seconds, calls)
    return ServerActivity(seconds, tuple(builder.build_models()), after.metrics)


class _Builder:
    """Builds the rows of a server."""

    def __init__(self, reading: ServerReading, difference: ServerStatistics, seconds: float, calls: Calls) -> None:
        self._reading = reading
        self._configs = reading.configs
        self._seconds = seconds
        self._difference = difference
        self._by_model = merge_versions(difference)
        self._totals = merge_versions(reading.statistics)
        self._calls = calls
        #: Model -> the ensembles that have it as a step.
        self._users: dict[str, set[str]] = {}
        for name, config in self._configs.items():
            for step in config.ensemble_scheduling.step:
                self._users.setdefault(step.model_name, set()).add(name)

    def build_models(self) -> Iterator[ModelActivity]:
        for name in self._list_roots():
            yield self._build_model(name)

    def _list_roots(self) -> list[str]:
        """Return the models that are not a step and that no code is known to request; of a ring of calls, the first."""
        reached: dict[str, Collection[str]] = {}
        for name in self._by_model:
            if name not in self._users:
                reached[name] = ()
                with contextlib.suppress(CaseError, KeyError):  # not loaded when the configurations were read
                    reached[name] = find_reached_models(self._configs, name, self._calls).keys()
        called = {name for names in reached.values() for name in names}
        listed: list[str] = []
        hidden: set[str] = set()
        for name in sorted(reached, key=lambda name: (name in called, name)):
            if name not in hidden:
                listed.append(name)
                hidden.update(reached[name])
        return sorted(listed)

    def _build_model(self, name: str) -> ModelActivity:
        try:
            steps = list_steps(self._configs, name) if name in self._configs else ()
            times = compute_request_time(
                self._configs, name, self._difference, seconds=self._seconds, calls=self._calls
            )
            bottleneck = find_bottleneck(times, self._configs) if steps else None
        except (
            CaseError,
            KeyError,
        ):  # a step is not loaded, or the model was loaded after the configurations were read
            return ModelActivity((self._build_row(name, name, 0),))
        limiting = bottleneck.step if bottleneck is not None else ""
        called: set[str] = set()
        if not self._configs[name].ensemble_scheduling.step:
            own = self._build_row(name, name, 0, limiting=limiting)
            return ModelActivity((own, *self._build_called(own, called)), bottleneck)
        others = {step.name: bool(step.other_requests) for step in times.steps}
        nested = {ensemble.name: ensemble.model for ensemble in times.ensembles[1:]}
        rows = [self._build_row(name, name, 0, limiting=limiting)]
        listed: set[str] = set()
        for step in steps:
            parts = step.name.split("/")
            for depth in range(1, len(parts)):
                above = "/".join(parts[:depth])
                if above not in listed:
                    listed.add(above)
                    rows.append(self._build_row(above, nested.get(above, parts[depth - 1]), depth, limiting=limiting))
            is_shared = others.get(step.name, False) or len(self._users.get(step.model, ())) > 1
            rows.append(self._build_row(step.name, step.model, len(parts), limiting=limiting, is_shared=is_shared))
            rows += self._build_called(rows[-1], called)
        return ModelActivity(tuple(rows), bottleneck)

    def _build_called(self, above: ActivityRow, listed: set[str]) -> Iterator[ActivityRow]:
        """Yield the rows of the models that the code of a model requests, and of what these use; each model once."""
        for name in self._calls.get(above.model, ()) if above.depth < _DEEPEST else ():
            if name not in self._by_model or name in listed:
                continue
            listed.add(name)
            callers = sum(name in called for called in self._calls.values())
            row = self._build_row(
                f"{above.name}/{name}",
                name,
                above.depth + 1,
                is_shared=callers > 1 or name in self._users,
                is_called=True,
            )
            yield row
            if not row.is_ensemble:
                yield from self._build_called(row, listed)
                continue
            with contextlib.suppress(CaseError):  # a step is not loaded
                for step in list_steps(self._configs, name):
                    inner = self._build_row(f"{row.name}/{step.name}", step.model, row.depth + 1 + step.name.count("/"))
                    yield inner
                    yield from self._build_called(inner, listed)

    def _build_row(
        self,
        name: str,
        model: str,
        depth: int,
        *,
        limiting: str = "",
        is_shared: bool = False,
        is_called: bool = False,
    ) -> ActivityRow:
        statistics = self._by_model.get(model, ModelStatistics(model))
        config = self._configs.get(model)
        is_ensemble = config is not None and bool(config.ensemble_scheduling.step)
        count = statistics.success.count
        queue = compute = utilization = None
        if count and not is_ensemble:
            queue = statistics.queue.total / count
            parts = (statistics.compute_input, statistics.compute_infer, statistics.compute_output)
            compute = sum(part.total for part in parts) / count
        if config is not None and not is_ensemble:
            utilization = min(statistics.busy / (self._seconds * 1000 * count_instances(config)), 1.0)
        metrics = self._reading.metrics
        return ActivityRow(
            name,
            model,
            depth,
            is_ensemble,
            statistics.requests / self._seconds,
            statistics.failure.count,
            self._totals[model].failure.count if model in self._totals else 0,
            queue,
            compute,
            statistics.success.mean if count else None,
            {} if is_ensemble else {batch.batch_size: batch.executions for batch in statistics.batches},
            utilization,
            metrics.pending.get(model) if metrics is not None else None,
            is_bottleneck=bool(limiting) and name == limiting,
            is_shared=is_shared,
            is_called=is_called,
        )


@dataclass(slots=True)
class ActivityHistory:
    """The readings of a server in the last ``window`` seconds, so that figures are not of a few requests only.

    ``calls`` are the models that the code of each model requests, as far as known.
    """

    window: float
    calls: Calls = field(default_factory=dict)
    _readings: deque[ServerReading] = field(default_factory=deque)

    def add(self, reading: ServerReading) -> ServerActivity | None:
        """Add a reading; return the activity of the window, None with the first reading.

        Where a model was loaded again since an earlier reading, the history begins with this one.
        """
        self._readings.append(reading)
        while len(self._readings) > 2 and reading.time - self._readings[1].time >= self.window:
            self._readings.popleft()
        if len(self._readings) < 2:
            return None
        try:
            return compute_activity(self._readings[0], reading, self.calls)
        except DecodeError:
            self._readings.clear()
            self._readings.append(reading)
            return None

    def clear(self) -> None:
        """Discard the readings, after the server gave no answer."""
        self._readings.clear()
