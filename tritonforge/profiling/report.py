"""The report of a profile as values, JSON and CSV. This module does no I/O."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.profiling.bottleneck import Bottleneck
from tritonforge.profiling.estimates import Estimate
from tritonforge.profiling.load import ClosedLoop, LoadResult, OpenLoop
from tritonforge.profiling.step_times import RequestTime, StepTime

__all__ = ["LoadProfile", "ProfileReport", "format_csv", "format_json"]

_COLUMNS: Final = (
    "load", "kind", "concurrency", "rate", "requests", "failures", "seconds", "is_stable", "throughput",
    "throughput_low", "throughput_high", "mean_ms", "p50_ms", "p50_low_ms", "p50_high_ms", "p90_ms", "p95_ms", "p99_ms",
    "p99_low_ms", "p99_high_ms", "max_ms", "send_lag_ms", "generator_cpu", "step", "model", "step_total_ms",
    "step_queue_ms", "step_input_ms", "step_infer_ms", "step_output_ms", "step_batch", "step_instances",
    "step_utilization", "step_is_critical", "bottleneck", "bottleneck_kind",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LoadProfile:
    """One load: what the client measured, and what the server's statistics add; None where it has none."""

    result: LoadResult
    times: RequestTime | None = None
    bottleneck: Bottleneck | None = None

    @property
    def outside(self) -> float:
        """Milliseconds of a request outside of Triton's core, and of the time until a late request was sent."""
        if self.times is None or not self.times.requests:
            return 0.0
        lag = self.result.send_lag.mean if self.result.send_lag is not None else 0.0
        return max(0.0, self.result.latency.value - lag - self.times.total)


@dataclass(frozen=True, slots=True)
class ProfileReport:
    """The profile of a model.

    Attributes:
        url: the address; ``model`` the model, "" for the default of a SageMaker address.
        requests: what was sent, in a sentence.
        loads: the loads, in the order of the command.
        request_bytes: of a request's body; ``response_bytes`` of its answer, 0 where it is not known.
        batch_size: rows of a request.
        notes: what a reader should be aware of, such as why there are no times of steps.
    """

    url: str
    model: str
    requests: str
    loads: tuple[LoadProfile, ...]
    request_bytes: int = 0
    response_bytes: int = 0
    batch_size: int = 1
    notes: tuple[str, ...] = ()
    precision: float = 0.05

    @property
    def main(self) -> LoadProfile | None:
        """The load that the steps are shown for: the highest one that was answered."""
        answered = [load for load in self.loads if load.result.requests]
        return answered[-1] if answered else None

    @property
    def has_failures(self) -> bool:
        """Whether a request failed, or none was answered."""
        return self.main is None or any(load.result.failures for load in self.loads)


def format_json(report: ProfileReport) -> dict[str, Any]:
    """Return a report as a JSON document; times are milliseconds, intervals those of 95 % confidence."""
    return {
        "url": report.url,
        "model": report.model,
        "requests": {
            "description": report.requests,
            "request_bytes": report.request_bytes,
            "response_bytes": report.response_bytes,
            "batch_size": report.batch_size,
        },
        "loads": [_format_load(load) for load in report.loads],
        "notes": list(report.notes),
    }


def format_csv(report: ProfileReport) -> str:
    """Return a report as CSV: a row for each step of each load; one row for a load without steps."""
    lines: list[str] = []

    class _Lines:
        def write(self, text: str) -> None:
            lines.append(text)

    writer = csv.DictWriter(_Lines(), _COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for load in report.loads:
        for row in _list_rows(load):
            writer.writerow(row)
    return "".join(lines)


def _list_rows(load: LoadProfile) -> Iterator[dict[str, Any]]:
    result = load.result
    row: dict[str, Any] = {
        "load": str(result.load),
        "kind": "closed" if isinstance(result.load, ClosedLoop) else "open",
        "concurrency": result.load.concurrency if isinstance(result.load, ClosedLoop) else "",
        "rate": result.load.rate if isinstance(result.load, OpenLoop) else "",
        "requests": result.requests,
        "failures": result.failures,
        "seconds": _round(result.seconds),
        "is_stable": str(result.is_stable).lower(),
        "throughput": _round(result.throughput.value),
        "throughput_low": _round(result.throughput.low),
        "throughput_high": _round(result.throughput.high),
        "mean_ms": _round(result.latency.value),
        "max_ms": _round(result.max_latency),
        "send_lag_ms": _round(result.send_lag.mean) if result.send_lag is not None else "",
        "generator_cpu": _round(result.generator.cpu),
        "bottleneck": load.bottleneck.step if load.bottleneck is not None else "",
        "bottleneck_kind": load.bottleneck.kind if load.bottleneck is not None else "",
    }
    row |= {f"p{percentile:g}_ms": _round(estimate.value) for percentile, estimate in result.percentiles.items()}
    for percentile in (50.0, 99.0):
        row[f"p{percentile:g}_low_ms"] = _round(result.percentiles[percentile].low)
        row[f"p{percentile:g}_high_ms"] = _round(result.percentiles[percentile].high)
    steps: Sequence[StepTime] = load.times.steps if load.times is not None else ()
    for step in steps:
        yield {
            **row,
            "step": step.name,
            "model": step.model,
            "step_total_ms": _round(step.total),
            "step_queue_ms": _round(step.queue),
            "step_input_ms": _round(step.compute_input),
            "step_infer_ms": _round(step.compute_infer),
            "step_output_ms": _round(step.compute_output),
            "step_batch": _round(step.mean_batch_size),
            "step_instances": step.instances,
            "step_utilization": _round(step.utilization),
            "step_is_critical": str(step.is_critical).lower(),
        }
    if not steps:
        yield row


def _format_load(load: LoadProfile) -> dict[str, Any]:
    result = load.result
    sent: dict[str, Any] = (
        {"concurrency": result.load.concurrency}
        if isinstance(result.load, ClosedLoop)
        else {"rate": result.load.rate, "distribution": "poisson" if result.load.is_poisson else "constant"}
    )
    document: dict[str, Any] = {
        "load": sent,
        "seconds": _round(result.seconds),
        "warm_up_seconds": _round(result.warm_up),
        "is_stable": result.is_stable,
        "is_interrupted": result.is_interrupted,
        "requests": result.requests,
        "failures": result.failures,
        "throughput": _format_estimate(result.throughput),
        "latency_ms": {
            "mean": _format_estimate(result.latency),
            **{f"p{percentile:g}": _format_estimate(estimate) for percentile, estimate in result.percentiles.items()},
            "max": _round(result.max_latency),
        },
        "errors": [{"message": error.sentence, "count": error.count} for error in result.errors],
        "generator": {
            "processes": result.generator.processes,
            "cpu": _round(result.generator.cpu),
            "busiest_process": _round(result.generator.busiest),
            "is_saturated": result.generator.is_saturated,
        },
    }
    if result.send_lag is not None:
        lag = result.send_lag
        document["send_lag_ms"] = {"mean": _round(lag.mean), "p99": _round(lag.p99), "max": _round(lag.max)}
    if load.times is not None:
        document["server"] = _format_times(load.times, load.outside)
    if load.bottleneck is not None:
        found = load.bottleneck
        document["bottleneck"] = {
            "step": found.step,
            "model": found.model,
            "kind": found.kind,
            "milliseconds": _round(found.milliseconds),
            "share": _round(found.share),
            "sentence": found.sentence,
            "advice": list(found.advice),
        }
    return document


def _format_times(times: RequestTime, outside: float) -> dict[str, Any]:
    return {
        "requests": times.requests,
        "failures": times.failures,
        "total_ms": _round(times.total),
        "outside_ms": _round(outside),
        "overhead_ms": _round(times.overhead),
        "steps": [_format_step(step) for step in times.steps],
        "ensembles": [
            {
                "name": ensemble.name,
                "model": ensemble.model,
                "total_ms": _round(ensemble.total),
                "overhead_ms": _round(ensemble.overhead),
            }
            for ensemble in times.ensembles
        ],
        "called": [
            {
                "model": called.model,
                "callers": list(called.callers),
                "calls_per_request": _round(called.calls),
                "total_ms": _round(called.total),
                "steps": [_format_step(step) for step in called.steps],
            }
            for called in times.called
        ],
    }


def _format_step(step: StepTime) -> dict[str, Any]:
    return {
        "name": step.name,
        "model": step.model,
        "requests": step.requests,
        "failures": step.failures,
        "queue_ms": _round(step.queue),
        "input_ms": _round(step.compute_input),
        "infer_ms": _round(step.compute_infer),
        "calls_ms": _round(step.calls),
        "output_ms": _round(step.compute_output),
        "total_ms": _round(step.total),
        "begin_ms": _round(step.begin),
        "is_critical": step.is_critical,
        "instances": step.instances,
        "utilization": _round(step.utilization),
        "other_requests": step.other_requests,
        "cache_hits": None if step.cache_hits is None else _round(step.cache_hits),
        "batches": {str(batch.batch_size): batch.executions for batch in step.batches},
    }


def _format_estimate(estimate: Estimate) -> dict[str, float | None]:
    return {"value": _round(estimate.value), "low": _round(estimate.low), "high": _round(estimate.high)}


def _round(value: float | None) -> Any:
    """Return a number with at most four decimals; "" in CSV and null in JSON for None."""
    return None if value is None else round(value, 4)
