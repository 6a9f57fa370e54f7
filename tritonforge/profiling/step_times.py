"""The time of a request by steps: how the time of an ensemble adds up, from a server's statistics. No I/O.

The steps of nested ensembles are steps too. Steps run as soon as their inputs are there, so that the time of an
ensemble is that of the longest chain of steps (the critical path) and the ensemble's own time, in which Triton starts
steps and moves tensors. All times are means: of parallel branches the longer one is the one with the longer mean.

Triton counts by model. A model that is a step twice, or that requests reach on other ways as well, has one set of
figures for all of them; `StepTime.other_requests` states how many requests were not those of the steps.

A Python model may request other models itself (business logic scripting, BLS). It waits for them while it computes:
their time is a part of its ``compute_infer`` and is added nowhere. Statistics do not state who requests a model; the
models that code requests by constant names are known from the repository (`graph_reader.read_calls`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from tritonforge.errors import CaseError
from tritonforge.golden_tests.data_flow import Step, list_steps
from tritonforge.profiling.statistics import BatchStatistics, ModelStatistics, ServerStatistics, merge_versions

__all__ = [
    "CalledModel",
    "Calls",
    "EnsembleTime",
    "RequestTime",
    "StepTime",
    "compute_request_time",
    "count_instances",
    "find_reached_models",
]  # fmt: skip

#: The models that the code of each model requests.
Calls: TypeAlias = Mapping[str, Sequence[str]]

#: Requests that start before a reading and end after it make counts differ by a few; beyond this they are others'.
_TOLERANCE: Final = 0.05
_MOST_IN_FLIGHT: Final = 16


@dataclass(frozen=True, slots=True)
class StepTime:
    """The time of one step; all times are milliseconds of one request.

    Attributes:
        name: the name of the step, with the names of nested ensembles before it.
        model: its model.
        requests: requests of the model that succeeded; ``failures`` did not.
        queue: waiting for an instance, or for a batch to fill.
        compute_input: copying inputs to the backend.
        compute_infer: the backend itself.
        compute_output: copying outputs.
        total: all of it; more than the sum where Triton's core adds to it.
        batches: the executions of the model by batch size.
        instances: instances of the model.
        utilization: the share of the time in which an instance was busy, from 0 to 1.
        begin: when the step begins after the start of the request, on the chain of means; ``end`` is when it ends.
        is_critical: whether it is on the critical path.
        other_requests: requests of the model that were not those of the steps.
        cache_hits: the share of requests that the response cache answered; None without a response cache.
        calls: the part of ``compute_infer`` that the requests of its code to other models take one after another; 0
            where that is not known: its code names no model, others request these models too, or it requests several
            at once.
    """

    name: str
    model: str
    requests: int = 0
    failures: int = 0
    queue: float = 0.0
    compute_input: float = 0.0
    compute_infer: float = 0.0
    compute_output: float = 0.0
    total: float = 0.0
    batches: tuple[BatchStatistics, ...] = ()
    instances: int = 1
    utilization: float = 0.0
    begin: float = 0.0
    is_critical: bool = False
    other_requests: int = 0
    cache_hits: float | None = None
    calls: float = 0.0

    @property
    def end(self) -> float:
        """When the step ends, in milliseconds after the start of the request."""
        return self.begin + self.total

    @property
    def mean_batch_size(self) -> float:
        """The mean batch size of the executions; 0 if there was none."""
        executions = sum(batch.executions for batch in self.batches)
        return sum(batch.batch_size * batch.executions for batch in self.batches) / executions if executions else 0.0

    @property
    def execution(self) -> float:
        """The mean time of an execution in milliseconds; 0 if there was none."""
        executions = sum(batch.executions for batch in self.batches)
        return sum(batch.busy for batch in self.batches) / executions if executions else 0.0


@dataclass(frozen=True, slots=True)
class EnsembleTime:
    """An ensemble: its steps' name prefix, and milliseconds of one request.

    ``overhead`` is what its steps do not explain: starting steps and moving tensors between them.
    """

    name: str
    model: str
    requests: int
    total: float
    overhead: float


@dataclass(frozen=True, slots=True)
class CalledModel:
    """A model that got requests which no ensemble explains: a Python model requests it (BLS), or another client does.

    Attributes:
        calls: its requests for one request of the profiled model.
        total: their milliseconds together, for one request of the profiled model.
        steps: the times of one request to it, as those of a step: of itself, or of the steps of an ensemble, with its
            name before theirs.
        callers: the models whose code names it and that the profiled model reaches; empty where none is known.
    """

    model: str
    calls: float
    total: float
    steps: tuple[StepTime, ...] = ()
    callers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RequestTime:
    """How the time of a request to a model adds up; times are milliseconds, and means.

    Attributes:
        model: the model that clients request.
        requests: its requests that succeeded; ``failures`` did not.
        total: from a request's arrival in Triton's core to its answer.
        steps: the steps in the order of the data flow; the model itself if it is not an ensemble.
        ensembles: the ensemble itself, then nested ones; empty if the model is not an ensemble.
        called: models that got requests besides those of the steps; their times are parts of the callers' times.
        seconds: the length of the measurement.
    """

    model: str
    requests: int
    failures: int
    total: float
    steps: tuple[StepTime, ...]
    ensembles: tuple[EnsembleTime, ...] = ()
    called: tuple[CalledModel, ...] = ()
    seconds: float = 0.0

    @property
    def critical_path(self) -> tuple[StepTime, ...]:
        """The steps of the longest chain."""
        return tuple(step for step in self.steps if step.is_critical)

    @property
    def overhead(self) -> float:
        """Milliseconds of the ensemble and of nested ones that no step of the critical path explains; at least 0."""
        return max(0.0, self.total - sum(step.total for step in self.critical_path)) if self.ensembles else 0.0

    def find_step(self, name: str) -> StepTime | None:
        """Return the step of a name; None if it does not exist."""
        return next((step for step in self.steps if step.name == name), None)

    def list_called(self, model: str) -> Iterator[CalledModel]:
        """Yield the models that the code of a step requests, and those that code requests on their behalf."""
        reached = [model]
        listed: set[str] = set()
        for caller in reached:
            for called in self.called:
                if caller in called.callers and called.model not in listed:
                    listed.add(called.model)
                    reached += [called.model, *(step.model for step in called.steps)]
                    yield called


def compute_request_time(
    configs: Mapping[str, Any],
    model: str,
    statistics: ServerStatistics,
    *,
    seconds: float,
    calls: Calls = MappingProxyType({}),
) -> RequestTime:
    """Return how the time of a request adds up.

    Args:
        configs: the ModelConfig messages of the server's models, as the server completed them.
        model: the model that clients request.
        statistics: the difference of two readings.
        seconds: the time between the two readings.
        calls: the models that the code of each model requests, as far as known.

    Raises:
        CaseError: an ensemble has a step that the configurations do not have, or contains itself.
    """
    by_model = merge_versions(statistics)
    own = by_model.get(model, ModelStatistics(model))
    flow = list_steps(configs, model)
    uses: dict[str, int] = {}
    for step in flow:
        uses[step.model] = uses.get(step.model, 0) + 1
    timed = [
        _time_step(step, configs, by_model, expected=own.requests * uses[step.model], seconds=seconds) for step in flow
    ]
    callers = find_reached_models(configs, model, calls)
    called = _list_called(configs, by_model, own, callers, seconds=seconds)
    placed = _place_steps(flow, [_add_calls(time, called, own.success.count, uses[time.model]) for time in timed])
    return RequestTime(
        model,
        own.success.count,
        own.failure.count,
        own.success.mean,
        placed,
        _list_ensembles(configs, model, placed, by_model),
        called,
        seconds,
    )


def find_reached_models(configs: Mapping[str, Any], model: str, calls: Calls) -> Mapping[str, tuple[str, ...]]:
    """Return the models that code requests on behalf of a model, each one with the models whose code does.

    Code requests a model directly, or a step of an ensemble that it requests, or the code of such a model. Models that
    are not among the configurations are left out.
    """
    callers: dict[str, list[str]] = {}
    visited: set[str] = set()
    waiting = [step.model for step in list_steps(configs, model)]
    while waiting:
        caller = waiting.pop()
        if caller in visited:
            continue
        visited.add(caller)
        for called in calls.get(caller, ()):
            if called in configs and called != model:
                callers.setdefault(called, []).append(caller)
                with contextlib.suppress(CaseError):  # an ensemble with a step that is not loaded
                    waiting += [step.model for step in list_steps(configs, called)]
    return {called: tuple(sorted(names)) for called, names in callers.items()}


def count_instances(config: Any) -> int:
    """Return how many instances of a model run at once; ``config`` is a ModelConfig that the server completed."""
    groups = (group for group in config.instance_group if not group.passive)
    return max(1, sum(int(group.count) * max(1, len(group.gpus)) for group in groups))


def _time_step(
    step: Step, configs: Mapping[str, Any], by_model: Mapping[str, ModelStatistics], *, expected: int, seconds: float
) -> StepTime:
    config = configs[step.model]
    model = by_model.get(step.model, ModelStatistics(step.model))
    count = model.success.count
    instances = count_instances(config)
    # Not the means of the durations: requests that the response cache answers have no queue and no computation.
    queue, compute_input, compute_infer, compute_output = (
        duration.total / count if count else 0.0
        for duration in (model.queue, model.compute_input, model.compute_infer, model.compute_output)
    )
    looked_up = model.cache_hit.count + model.cache_miss.count
    others = model.requests - expected
    return StepTime(
        step.name,
        step.model,
        requests=count,
        failures=model.failure.count,
        queue=queue,
        compute_input=compute_input,
        compute_infer=compute_infer,
        compute_output=compute_output,
        total=max(model.success.mean, queue + compute_input + compute_infer + compute_output),
        batches=model.batches,
        instances=instances,
        utilization=model.busy / (seconds * 1000 * instances) if seconds > 0 else 0.0,
        other_requests=others if others > _MOST_IN_FLIGHT + expected * _TOLERANCE else 0,
        cache_hits=model.cache_hit.count / looked_up if looked_up else None,
    )


def _place_steps(flow: Sequence[Step], timed: Sequence[StepTime]) -> tuple[StepTime, ...]:
    """Return the steps with their begin, and those of the longest chain marked."""
    placed: dict[str, StepTime] = {}
    before: dict[str, str | None] = {}
    for step, time in zip(flow, timed, strict=True):
        sources = {source.rpartition(".")[0] for source in step.sources.values()} & placed.keys()
        last = max(sorted(sources), key=lambda name: placed[name].end, default=None)
        before[step.name] = last
        placed[step.name] = replace(time, begin=placed[last].end if last is not None else 0.0)
    name: str | None = max(placed, key=lambda key: placed[key].end, default=None)
    while name is not None:
        placed[name] = replace(placed[name], is_critical=True)
        name = before[name]
    return tuple(placed[step.name] for step in flow)


def _list_ensembles(
    configs: Mapping[str, Any], model: str, steps: Sequence[StepTime], by_model: Mapping[str, ModelStatistics]
) -> tuple[EnsembleTime, ...]:
    if not configs[model].ensemble_scheduling.step:
        return ()
    prefixes: dict[str, None] = {"": None}
    for step in steps:
        parts = step.name.split("/")[:-1]
        prefixes.update(("/".join(parts[: depth + 1]) + "/", None) for depth in range(len(parts)))
    ensembles = []
    for prefix in prefixes:
        name = prefix.rstrip("/")
        part = name.rpartition("/")[2]
        nested = part if part in configs else part.rpartition("#")[0]
        statistics = by_model.get(nested if prefix else model, ModelStatistics(nested))
        inside = [step for step in steps if step.name.startswith(prefix)]
        # The longest chain inside: from the first begin to the last end.
        spent = max(step.end for step in inside) - min(step.begin for step in inside)
        ensembles.append(
            EnsembleTime(
                name or model,
                statistics.name,
                statistics.success.count,
                statistics.success.mean,
                max(0.0, statistics.success.mean - spent),
            )
        )
    return tuple(ensembles)


def _add_calls(step: StepTime, called: Sequence[CalledModel], requests: int, uses: int) -> StepTime:
    """Return a step with the time of its calls; ``requests`` of the profiled model had ``uses`` of the step's model."""
    executions = sum(batch.executions for batch in step.batches)
    own = [entry for entry in called if entry.callers == (step.model,)]
    if not executions or any(step.model in entry.callers for entry in called if entry not in own):
        return step
    # A request waits for the calls of all requests in its batch, and large batches have more requests.
    rows = sum(batch.batch_size * batch.executions for batch in step.batches)
    squares = sum(batch.batch_size**2 * batch.executions for batch in step.batches)
    waited = sum(entry.total for entry in own) * requests / executions
    waited *= squares * executions / rows**2 if rows else 1.0
    is_serial = uses == 1 and 0.0 < waited <= step.compute_infer
    return replace(step, calls=waited) if is_serial else step


def _list_called(
    configs: Mapping[str, Any],
    by_model: Mapping[str, ModelStatistics],
    own: ModelStatistics,
    callers: Mapping[str, tuple[str, ...]],
    *,
    seconds: float,
) -> tuple[CalledModel, ...]:
    """Return the models that got requests which the ensembles do not explain, and those that code requests."""
    expected: dict[str, int] = {}
    for name, config in configs.items():
        for step in config.ensemble_scheduling.step:
            requests = by_model[name].requests if name in by_model else 0
            expected[step.model_name] = expected.get(step.model_name, 0) + requests
    called = []
    for name, statistics in by_model.items():
        explained = expected.get(name, 0)
        others = max(0, statistics.requests - explained)
        is_explained = not others or (explained and others <= _MOST_IN_FLIGHT + explained * _TOLERANCE)
        if name == own.name or not own.success.count or not statistics.requests:
            continue
        if is_explained and name not in callers:
            continue
        calls = others / own.success.count
        steps = tuple(_time_called(configs, by_model, name, seconds=seconds))
        called.append(CalledModel(name, calls, calls * statistics.success.mean, steps, callers.get(name, ())))
    return tuple(sorted(called, key=lambda model: (-model.total, model.model)))


def _time_called(
    configs: Mapping[str, Any], by_model: Mapping[str, ModelStatistics], model: str, *, seconds: float
) -> Iterator[StepTime]:
    """Yield the times of a called model, or of the steps of a called ensemble."""
    try:
        flow = list_steps(configs, model)
    except CaseError:  # loaded after the configurations were read, or an ensemble with a step that is not loaded
        return
    for step in flow:
        requests = by_model[step.model].requests if step.model in by_model else 0
        time = _time_step(step, configs, by_model, expected=requests, seconds=seconds)
        yield time if step.model == model else replace(time, name=f"{model}/{time.name}")
