"""A server's statistics as values: parse them, subtract two readings, average. This module does no I/O.

Triton counts since it loaded a model, for each version: how many requests it answered, and the sum of the times that
they spent in the queue, copying inputs, computing, and copying outputs. ``GET /v2/models/stats`` returns them on the
HTTP port, ``ModelStatistics`` on the gRPC port; the SageMaker front end has no call for them. The difference of two
readings describes what happened between them. Source: server/docs/protocol/extension_statistics.md; read on 2.51.

A request in a batch is charged the whole time of the batch, so that the mean of a duration is what one request waited
for. ``batches`` has the same times for each execution instead.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from tritonforge.errors import DecodeError

__all__ = ["BatchStatistics", "Duration", "ModelStatistics", "ServerStatistics", "merge_versions", "parse_statistics",
           "subtract_statistics"]  # fmt: skip

_NANOSECONDS: Final = 1e6  # in a millisecond


@dataclass(frozen=True, slots=True)
class Duration:
    """A sum of times: how many there were, and their sum in nanoseconds."""

    count: int = 0
    nanoseconds: int = 0

    @property
    def mean(self) -> float:
        """The mean in milliseconds; 0 if there was none."""
        return self.nanoseconds / self.count / _NANOSECONDS if self.count else 0.0

    @property
    def total(self) -> float:
        """The sum in milliseconds."""
        return self.nanoseconds / _NANOSECONDS

    def __add__(self, other: Duration) -> Duration:
        return Duration(self.count + other.count, self.nanoseconds + other.nanoseconds)

    def __sub__(self, other: Duration) -> Duration:
        return Duration(self.count - other.count, self.nanoseconds - other.nanoseconds)


@dataclass(frozen=True, slots=True)
class BatchStatistics:
    """The executions of one batch size: the times are those of executions, not of requests."""

    batch_size: int
    compute_input: Duration = Duration()
    compute_infer: Duration = Duration()
    compute_output: Duration = Duration()

    @property
    def executions(self) -> int:
        """How many executions had this batch size."""
        return self.compute_infer.count

    @property
    def busy(self) -> float:
        """The milliseconds in which an instance was busy with these executions."""
        return self.compute_input.total + self.compute_infer.total + self.compute_output.total


@dataclass(frozen=True, slots=True)
class ModelStatistics:
    """The statistics of one version of a model.

    Attributes:
        inferences: elements of batches: a request with a batch of 8 counts as 8.
        executions: how often an instance ran; less than ``inferences`` where requests were batched.
        success: requests that were answered, from their arrival in Triton's core to their answer, queue included.
        failure: requests that failed.
        queue: waiting for an instance, and for other requests to form a batch with.
        compute_input: copying inputs to the backend.
        compute_infer: the backend itself.
        compute_output: copying outputs.
        cache_hit: requests that the response cache answered, with the time to look them up.
        cache_miss: requests that it did not answer, with the time to look up and insert.
        batches: executions by batch size, ascending.
        last_inference: milliseconds since 1970; 0 if there was none.
    """

    name: str
    version: str = ""
    inferences: int = 0
    executions: int = 0
    success: Duration = Duration()
    failure: Duration = Duration()
    queue: Duration = Duration()
    compute_input: Duration = Duration()
    compute_infer: Duration = Duration()
    compute_output: Duration = Duration()
    cache_hit: Duration = Duration()
    cache_miss: Duration = Duration()
    batches: tuple[BatchStatistics, ...] = ()
    last_inference: int = 0

    @property
    def requests(self) -> int:
        """Requests that ended, with an answer or an error."""
        return self.success.count + self.failure.count

    @property
    def busy(self) -> float:
        """The milliseconds in which instances were busy, summed over all instances."""
        return sum(batch.busy for batch in self.batches)

    @property
    def mean_batch_size(self) -> float:
        """The mean batch size of the executions; 0 if there was none."""
        executions = sum(batch.executions for batch in self.batches)
        return sum(batch.batch_size * batch.executions for batch in self.batches) / executions if executions else 0.0


#: The statistics of models by name and version.
ServerStatistics: TypeAlias = "Mapping[tuple[str, str], ModelStatistics]"

_DURATIONS: Final = {
    "success": "success", "fail": "failure", "queue": "queue", "compute_input": "compute_input",
    "compute_infer": "compute_infer", "compute_output": "compute_output", "cache_hit": "cache_hit",
    "cache_miss": "cache_miss",
}  # fmt: skip


def parse_statistics(text: bytes | str, *, where: str = "statistics") -> ServerStatistics:
    """Return the statistics of a response to ``GET /v2/models/stats``, or of gRPC's message as JSON.

    Args:
        text: the JSON document. gRPC writes 64-bit numbers as strings, and leaves out zeros.
        where: the start of messages, such as the address of the server.

    Raises:
        DecodeError: the document is not of this form.
    """
    try:
        document = json.loads(text)
        entries = document["model_stats"] if document else []
        models = [_read_model(entry) for entry in entries]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DecodeError(f"{where}: expected statistics of models, got {_shorten(text)}") from error
    return {(model.name, model.version): model for model in models}


def subtract_statistics(after: ServerStatistics, before: ServerStatistics) -> ServerStatistics:
    """Return what was counted between two readings; models that the later one has and the earlier one not are whole.

    Raises:
        DecodeError: a count fell, so that the model was loaded again between the readings.
    """
    return {key: _subtract_model(model, before.get(key)) for key, model in after.items()}


def merge_versions(statistics: ServerStatistics) -> Mapping[str, ModelStatistics]:
    """Return the statistics by model, all its versions together; ``version`` is "" where there are several."""
    merged: dict[str, ModelStatistics] = {}
    for model in statistics.values():
        other = merged.get(model.name)
        merged[model.name] = model if other is None else _add_models(other, model)
    return merged


def _read_model(entry: Mapping[str, Any]) -> ModelStatistics:
    durations = entry.get("inference_stats", {})
    return ModelStatistics(
        str(entry["name"]),
        str(entry.get("version", "")),
        inferences=int(entry.get("inference_count", 0)),
        executions=int(entry.get("execution_count", 0)),
        batches=tuple(sorted(map(_read_batch, entry.get("batch_stats", ())), key=lambda batch: batch.batch_size)),
        last_inference=int(entry.get("last_inference", 0)),
        **{name: _read_duration(durations.get(key, {})) for key, name in _DURATIONS.items()},
    )


def _read_batch(entry: Mapping[str, Any]) -> BatchStatistics:
    times = [_read_duration(entry.get(f"compute_{name}", {})) for name in ("input", "infer", "output")]
    return BatchStatistics(int(entry.get("batch_size", 0)), *times)


def _read_duration(entry: Mapping[str, Any]) -> Duration:
    return Duration(int(entry.get("count", 0)), int(entry.get("ns", 0)))


def _subtract_model(after: ModelStatistics, before: ModelStatistics | None) -> ModelStatistics:
    if before is None:
        return after
    if after.success.count < before.success.count or after.executions < before.executions:
        raise DecodeError(
            f"{after.name}: its statistics fell from {before.success.count} to {after.success.count} requests: it was "
            "loaded again meanwhile. Measure again"
        )
    earlier = {batch.batch_size: batch for batch in before.batches}
    batches = (_subtract_batch(batch, earlier.get(batch.batch_size)) for batch in after.batches)
    return ModelStatistics(
        after.name,
        after.version,
        inferences=after.inferences - before.inferences,
        executions=after.executions - before.executions,
        batches=tuple(batch for batch in batches if batch.executions),
        last_inference=after.last_inference,
        **{name: getattr(after, name) - getattr(before, name) for name in _DURATIONS.values()},
    )


def _subtract_batch(after: BatchStatistics, before: BatchStatistics | None) -> BatchStatistics:
    if before is None:
        return after
    return BatchStatistics(
        after.batch_size,
        after.compute_input - before.compute_input,
        after.compute_infer - before.compute_infer,
        after.compute_output - before.compute_output,
    )


def _add_models(first: ModelStatistics, second: ModelStatistics) -> ModelStatistics:
    return ModelStatistics(
        first.name,
        "",
        inferences=first.inferences + second.inferences,
        executions=first.executions + second.executions,
        batches=tuple(_add_batches([*first.batches, *second.batches])),
        last_inference=max(first.last_inference, second.last_inference),
        **{name: getattr(first, name) + getattr(second, name) for name in _DURATIONS.values()},
    )


def _add_batches(batches: Sequence[BatchStatistics]) -> Iterator[BatchStatistics]:
    for size in sorted({batch.batch_size for batch in batches}):
        same = [batch for batch in batches if batch.batch_size == size]
        zero = Duration()
        yield BatchStatistics(
            size,
            sum((batch.compute_input for batch in same), zero),
            sum((batch.compute_infer for batch in same), zero),
            sum((batch.compute_output for batch in same), zero),
        )


def _shorten(text: bytes | str) -> str:
    return repr(text if len(text) <= 80 else text[:80])
