"""A profile: measures a model under one load after another, and explains the figures with the server's statistics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from tritonforge.errors import CaseError
from tritonforge.inference.wire import Payload
from tritonforge.profiling.bottleneck import find_bottleneck
from tritonforge.profiling.load import ClosedLoop, Load, LoadResult, StopRule
from tritonforge.profiling.load_generator import MeasureProgress, measure
from tritonforge.profiling.report import LoadProfile
from tritonforge.profiling.step_times import Calls, RequestTime, compute_request_time
from tritonforge.profiling.target import Target

__all__ = ["profile_loads"]

#: One request at a time, for what the steps take without load.
_BASELINE: Final = StopRule(precision=0.2, min_seconds=1.0, max_seconds=8.0, min_requests=20, warm_up=0.25)


def profile_loads(
    target: Target,
    requests: Sequence[Payload],
    loads: Sequence[Load],
    *,
    configs: Mapping[str, Any],
    calls: Calls = MappingProxyType({}),
    stop: StopRule,
    scripts: Sequence[Sequence[int]] = (),
    processes: int | None = None,
    seed: int = 0,
    timeout: float = 70.0,
    cancelled: threading.Event | None = None,
    on_progress: Callable[[Load, MeasureProgress], None] = lambda load, progress: None,
) -> Iterator[LoadProfile]:
    """Yield the profile of each load, as soon as it is measured.

    A server with statistics first gets one request at a time for a few seconds, unless that is among the loads:
    bottlenecks are found by comparison. Once ``cancelled`` is set, the load that is measured is the last one.

    Args:
        target: where requests are sent.
        requests: what is sent.
        loads: how they are sent, one after another.
        configs: the ModelConfig messages of the server's models; empty for one without statistics.
        calls: the models that the code of each model requests, as far as known.
        stop: when the measurement of a load ends.
        scripts: as for `measure`; those of sequences, one for each connection.
        processes: as for `measure`, like the following ones.
        seed: of the times of a Poisson load.
        timeout: seconds until a request without an answer is an error.
        cancelled: ends the measurement once set.
        on_progress: is called with the load about ten times per second.

    Raises:
        EncodeError, ConnectError, DecodeError: as `measure`.
    """
    cancelled = cancelled or threading.Event()

    def measure_load(load: Load, rule: StopRule) -> LoadResult:
        return measure(
            target,
            requests,
            load,
            stop=rule,
            scripts=scripts,
            processes=processes,
            seed=seed,
            timeout=timeout,
            cancelled=cancelled,
            on_progress=lambda progress: on_progress(load, progress),
        )

    baseline: RequestTime | None = None
    has_steps = target.read_statistics is not None and target.model in configs
    if has_steps and ClosedLoop(1) not in loads:
        baseline = _compute_times(target, configs, calls, measure_load(ClosedLoop(1), _BASELINE))
    for load in loads:
        if cancelled.is_set():
            return
        result = measure_load(load, stop)
        times = _compute_times(target, configs, calls, result)
        if load == ClosedLoop(1) and baseline is None:
            baseline = times
        if times is None:
            yield LoadProfile(result)
            continue
        lag = result.send_lag.mean if result.send_lag is not None else 0.0
        latency = result.latency.value - lag  # the time until a late request was sent is not the server's
        yield LoadProfile(result, times, find_bottleneck(times, configs, latency=latency, baseline=baseline))


def _compute_times(target: Target, configs: Mapping[str, Any], calls: Calls, result: LoadResult) -> RequestTime | None:
    if result.statistics is None or target.model is None or target.model not in configs:
        return None
    try:
        return compute_request_time(
            configs, target.model, result.statistics, seconds=result.statistics_seconds, calls=calls
        )
    except CaseError:  # an ensemble of a server that loads models while it is profiled
        return None
