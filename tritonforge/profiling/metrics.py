"""Metrics of a Triton server as values, parsed from Prometheus' text format. This module does no I/O.

``GET /metrics`` on port 8002 returns a sample per line: a name, labels, a number, and perhaps a time in milliseconds.
Source: prometheus.io, "Exposition formats", text-based format; server/docs/user_guide/metrics.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tritonforge.errors import DecodeError

__all__ = ["Sample", "ServerMetrics", "parse_metrics", "parse_samples"]

#: A line of a sample without its labels: the name, and what follows.
_NAME: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)[ \t]*")
_LABEL: Final = re.compile(r'[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\\n]|\\.)*)"[ \t]*(,?)')
_VALUE: Final = re.compile(r"[ \t]*([^ \t]+)(?:[ \t]+(-?\d+))?[ \t]*$")
_ESCAPE: Final = re.compile(r"\\(.)")
_NUMBER: Final = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?Inf|NaN", re.IGNORECASE)

#: Characters of a line; a longer one is an error.
_LONGEST_LINE: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Sample:
    """One number: the name of the metric, its labels, and the value, which may be infinite or NaN."""

    name: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class ServerMetrics:
    """What `tritonforge watch` shows of the metrics.

    Attributes:
        models: the models that the metrics have.
        pending: requests that wait for execution, by model; of an ensemble, those in its steps too.
        failures: failed requests by model and reason, since the model was loaded.
        cpu: the machine's CPU utilization, from 0 to 1; None if the server does not measure it.
        memory_used: bytes of the machine's memory in use, and ``memory_total`` all of it; None as for ``cpu``.
        gpus: bytes of memory used and all, and utilization from 0 to 1, by the GPU's UUID.
    """

    models: frozenset[str]
    pending: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[tuple[str, str], int] = field(default_factory=dict)
    cpu: float | None = None
    memory_used: float | None = None
    memory_total: float | None = None
    gpus: Mapping[str, tuple[float | None, float | None, float | None]] = field(default_factory=dict)


def parse_samples(text: str, *, where: str = "metrics") -> Iterator[Sample]:
    r"""Yield the samples of a text; comments and empty lines are skipped.

    Raises:
        DecodeError: a line is not a sample.

    >>> [sample.labels["model"] for sample in parse_samples('x{model="a\\"b",} 1.5 1700\n# HELP x y')]
    ['a"b']
    """
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \t\r")
        if not line or line.startswith("#"):
            continue
        sample = _parse_sample(line) if len(line) <= _LONGEST_LINE else None
        if sample is None:
            raise DecodeError(
                f"{where}: line {number}: expected a sample of Prometheus' text format, got {line[:80]!r}"
            )
        yield sample


def _parse_sample(line: str) -> Sample | None:
    match = _NAME.match(line)
    if match is None:
        return None
    name, place = match[1], match.end()
    labels: dict[str, str] = {}
    if line.startswith("{", place):
        place += 1
        while (label := _LABEL.match(line, place)) is not None:
            labels[label[1]] = _ESCAPE.sub(_unescape, label[2])
            place = label.end()
            if not label[3]:
                break
        place += len(line[place:]) - len(line[place:].lstrip(" \t"))
        if not line.startswith("}", place):
            return None
        place += 1
    value = _VALUE.match(line, place)
    if value is None or not _NUMBER.fullmatch(value[1]):
        return None
    return Sample(name, labels, float(value[1]))


def _unescape(match: re.Match[str]) -> str:
    return {"n": "\n", '"': '"', "\\": "\\"}.get(match[1], match[0])


def parse_metrics(text: str, *, where: str = "metrics") -> ServerMetrics:
    """Return the metrics of a Triton server; versions of a model are added.

    Raises:
        DecodeError: the text is not in Prometheus' format, or has no metric of Triton.
    """
    samples = list(parse_samples(text, where=where))
    if not any(sample.name.startswith("nv_") for sample in samples):
        raise DecodeError(f"{where}: no metrics of Triton (expected names that begin with nv_)")
    pending = _sum_by_model(samples, "nv_inference_pending_request_count")
    failures: dict[tuple[str, str], int] = {}
    for sample in samples:
        if sample.name == "nv_inference_request_failure":
            key = (sample.labels.get("model", ""), sample.labels.get("reason", ""))
            failures[key] = failures.get(key, 0) + _to_count(sample.value)
    total = _find_value(samples, "nv_cpu_memory_total_bytes")
    is_measured = bool(total)  # all are 0 until the server has measured them for the first time
    models = {sample.labels["model"] for sample in samples if sample.name.startswith("nv_inference_request_success")
              and "model" in sample.labels}  # fmt: skip
    return ServerMetrics(
        frozenset(models),
        pending,
        failures,
        _find_value(samples, "nv_cpu_utilization") if is_measured else None,
        _find_value(samples, "nv_cpu_memory_used_bytes") if is_measured else None,
        total if is_measured else None,
        _read_gpus(samples),
    )


def _sum_by_model(samples: Sequence[Sample], name: str) -> dict[str, int]:
    sums: dict[str, int] = {}
    for sample in samples:
        if sample.name == name:
            model = sample.labels.get("model", "")
            sums[model] = sums.get(model, 0) + _to_count(sample.value)
    return sums


def _to_count(value: float) -> int:
    """Return a number as a count; 0 for what is not one."""
    return int(value) if 0 <= value < 2**63 else 0


def _find_value(samples: Sequence[Sample], name: str) -> float | None:
    return next((sample.value for sample in samples if sample.name == name and 0 <= sample.value < 2**63), None)


def _read_gpus(samples: Sequence[Sample]) -> dict[str, tuple[float | None, float | None, float | None]]:
    names = ("nv_gpu_memory_used_bytes", "nv_gpu_memory_total_bytes", "nv_gpu_utilization")
    values = {
        (sample.labels.get("gpu_uuid", ""), sample.name): sample.value
        for sample in samples
        if sample.name in names and 0 <= sample.value < 2**63
    }
    gpus: dict[str, tuple[float | None, float | None, float | None]] = {}
    for uuid, _ in values:
        gpus[uuid] = (values.get((uuid, names[0])), values.get((uuid, names[1])), values.get((uuid, names[2])))
    return gpus
