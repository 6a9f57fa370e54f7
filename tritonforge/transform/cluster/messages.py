"""What the driver and the workers of a cluster exchange: values that can be pickled. This module does no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from tritonforge.transform.job import TransformJob
from tritonforge.transform.journal import FinishedObject
from tritonforge.transform.object_store import ObjectStore, StoredObject
from tritonforge.transform.output_formats import OutputFormat

__all__ = ["Gathering", "WorkerLost", "WorkerReport", "WorkerSettings"]

#: Whether several records are sent in one request: as long as no answer changes, always, or never.
Gathering: TypeAlias = Literal["auto", "always", "never"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """What a worker needs to run its part of a job.

    Attributes:
        job: the job; its addresses are the same on every node.
        repository: path of the model repository on the driver's machine.
        identity: a text that changes when the repository does.
        model: the model to run, None for the repository's own choice.
        output_format: what is written of the responses.
        gathering: whether several records are sent in one request.
        open_source: opens the store of the input on the worker's node.
        open_sink: opens the store of the outputs for the worker of a name.
        first: an object of the input that the node must see, None to check nothing.
        marker: a file in the directory of the outputs that the node must see, and its content; None to check nothing.
    """

    job: TransformJob
    repository: str
    identity: str
    model: str | None
    output_format: OutputFormat
    gathering: Gathering
    open_source: Callable[[], ObjectStore]
    open_sink: Callable[[str], ObjectStore]
    first: StoredObject | None = None
    marker: tuple[str, bytes] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """News of a worker since its last report.

    Attributes:
        detail: what it does while it starts.
        capacity: once it is ready, how many objects it can have in requests at the same time.
        needs_repository: its node does not see the model repository.
        finished: objects that have their output, or failed.
        records: how many records it has answered in all; ``size`` is their input in bytes.
        notes: sentences for the user.
        has_ended: it ended; ``reason`` is why, empty if it was asked to.
        summary: sentences about the whole part of the worker, at its end.
    """

    detail: str = ""
    capacity: int = 0
    needs_repository: bool = False
    finished: tuple[FinishedObject, ...] = ()
    records: int = 0
    size: int = 0
    notes: tuple[str, ...] = ()
    has_ended: bool = False
    reason: str = ""
    summary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WorkerLost:
    """A worker's process or node is gone, for this reason; its unreported objects are not finished."""

    reason: str
