"""The state that the threads of a run share: its plan, the requests in flight, the counts, and whether the run ends.

`Progress` and `Outcome` are what a run reports about itself while it runs and when it has ended.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from tritonforge.records import AssembleWith, Buffer, SplitType
from tritonforge.transform.data_processing import Processing
from tritonforge.transform.job import EffectiveSettings
from tritonforge.transform.journal import FinishedObject, Journal
from tritonforge.transform.object_progress import ObjectInProgress
from tritonforge.transform.object_store import CHUNK, ObjectStore, StoredObject
from tritonforge.transform.output_formats import OutputFormat

__all__ = [
    "NO_OBJECTS",
    "Counts",
    "Failure",
    "InFlightLimiter",
    "InputObject",
    "NodeProgress",
    "Outcome",
    "Progress",
    "RunPlan",
    "RunState",
    "State",
    "Task",
    "build_outcome",
]

NO_OBJECTS: Final = "no objects to transform: the listing of the input is empty"

#: Complete objects that may wait to be written.
_MAX_WAITING: Final = 64

#: Failures that are kept with their reasons.
_MAX_FAILURES: Final = 1000

#: The values of `TransformJobStatus` with which a job ends.
State: TypeAlias = Literal["Completed", "Failed", "Stopped"]


@dataclass(frozen=True, slots=True)
class Failure:
    """An object without an output: the reason, and the number of the record that failed, None if it is not a record."""

    uri: str
    reason: str
    record: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProgress:
    """What a node of a cluster has done in this run; ``seconds`` is the time since its first worker was ready."""

    name: str
    objects: int
    records: int
    size: int
    seconds: float

    @property
    def rate(self) -> float:
        """Records per second."""
        return self.records / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Progress of a run, with the work of earlier runs in the ``before`` fields. Totals are None until counted.

    ``seconds`` is the time since the first request of this run; sizes are bytes of input. On a cluster ``nodes`` has
    the part of each node.
    """

    objects: int
    failed: int
    records: int
    size: int
    seconds: float
    objects_before: int = 0
    records_before: int = 0
    size_before: int = 0
    total_objects: int | None = None
    total_size: int | None = None
    nodes: tuple[NodeProgress, ...] = ()

    @property
    def rate(self) -> float:
        """Records per second in this run."""
        return self.records / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Remaining time at the speed of this run, None if unknown."""
        if not self.total_size or not self.size or self.seconds <= 0:
            return None
        left = self.total_size - self.size - self.size_before
        return max(0.0, left * self.seconds / self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a run.

    Attributes:
        objects: how many objects have their output, of which ``objects_before`` were finished by an earlier run.
        failed: how many objects failed; ``failures`` are the first of them.
        records: how many records were answered in this run; ``size`` is their input in bytes.
        seconds: how long this run took.
        reason: why the job failed, in one sentence; empty if it did not.
        notes: sentences that the user must read.
        nodes: on a cluster, what each node has done.
    """

    state: State
    objects: int
    failed: int
    records: int
    size: int
    seconds: float
    objects_before: int = 0
    records_before: int = 0
    failures: tuple[Failure, ...] = ()
    reason: str = ""
    notes: tuple[str, ...] = ()
    nodes: tuple[NodeProgress, ...] = ()


@dataclass(frozen=True, slots=True)
class InputObject:
    """An object of the job's input: its address, the key of its output, and its metadata if the listing has it."""

    uri: str
    key: str
    stored: StoredObject | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """The settings for every object of a run."""

    settings: EffectiveSettings
    split_type: SplitType
    compressed: bool
    assemble_with: AssembleWith
    output_format: OutputFormat
    processing: Processing | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One request: ``count`` records from ``record`` on; the next one begins at byte ``end`` of the object.

    ``body`` is what the object has there; an object of any size is a ``stream``, made anew for each attempt. ``size``
    is what the request counts in the `InFlightLimiter`, ``span`` the number of the object's bytes that it covers.
    """

    progress: ObjectInProgress
    number: int
    record: int | None
    count: int
    end: int
    size: int
    span: int
    body: Buffer
    stream: Callable[[], Iterator[Buffer]] | None = None


@dataclass(slots=True)
class Counts:
    """The counts of this run; ``size`` is in bytes of input, ``skipped`` objects were finished by an earlier run."""

    objects: int = 0
    failed: int = 0
    skipped: int = 0
    records: int = 0
    size: int = 0
    failures: list[Failure] = field(default_factory=list)

    def count(self, finished: FinishedObject) -> None:
        """Count an object that has its output, or has failed."""
        if finished.reason is None:
            self.objects += 1
            return
        self.failed += 1
        if len(self.failures) < _MAX_FAILURES:
            self.failures.append(Failure(finished.uri, finished.reason, finished.record))


class InFlightLimiter:
    """Limits how many records, and how many bytes of them, are in memory between being read and being written.

    One record is always admitted, whatever its size.
    """

    def __init__(self, *, records: int, size: int) -> None:
        self._max_records = records
        self._max_size = size
        self._changed = threading.Condition()
        self._records = 0
        self._size = 0
        self._closed = False

    def acquire(self, size: int) -> bool:
        """Wait until a record of this size fits. Return False if the limiter is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._can_admit(size))
            if self._closed:
                return False
            self._records += 1
            self._size += size
            return True

    def release(self, size: int) -> None:
        """Count a record of this size as done, so that waiting ones may follow."""
        with self._changed:
            self._records -= 1
            self._size -= size
            self._changed.notify_all()

    def close(self) -> None:
        """Admit no more records."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _can_admit(self, size: int) -> bool:
        return self._records == 0 or (self._records < self._max_records and self._size + size <= self._max_size)


class RunState:
    """The state of one run, used by all its threads.

    ``ended`` is set when no more work is to begin: the job was stopped, or cannot continue for the reason ``fatal``.
    ``internal_error`` is an unexpected exception of a thread. ``unfinished`` is True if work is left for the next run.
    """

    def __init__(
        self,
        plan: RunPlan,
        *,
        objects: Iterator[InputObject],
        source: ObjectStore,
        sink: ObjectStore,
        build_target: Callable[[str], str],
        journal: Journal,
        coalesced: int,
        ended: threading.Event,
        on_finish: Callable[[FinishedObject], None],
    ) -> None:
        self.plan = plan
        self.source = source
        self.sink = sink
        self.build_target = build_target
        self.journal = journal
        self.ended = ended
        self.fatal = ""
        self.internal_error: BaseException | None = None
        self.unfinished = False
        self.counts = Counts()
        self.started = time.monotonic()
        concurrent = plan.settings.max_concurrent
        # Twice what is sent at once: the next request is ready when a response comes.
        self.limiter = InFlightLimiter(
            records=2 * concurrent * coalesced, size=(concurrent + 2) * max(CHUNK, plan.settings.max_payload)
        )
        self.tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self.completed: queue.Queue[ObjectInProgress | None] = queue.Queue(_MAX_WAITING)
        self.lock = threading.Lock()
        self._on_finish = on_finish
        self._objects = objects
        self._objects_lock = threading.Lock()

    def next_object(self) -> InputObject | None:
        """Return the next object of the job, None after the last. Raises what the listing raises."""
        with self._objects_lock:
            if self.ended.is_set():
                self.unfinished = True
                return None
            return next(self._objects, None)

    def end(self, fatal: str = "", *, internal_error: BaseException | None = None) -> None:
        """Begin no more work; ``fatal`` is why no other object can be finished either."""
        with self.lock:
            self.fatal = self.fatal or fatal
            self.internal_error = self.internal_error or internal_error
        self.ended.set()
        self.limiter.close()

    def end_on_internal_error(self, error: BaseException) -> None:
        """End the run on an unexpected exception, which the main thread raises again."""
        self.end(repr(error), internal_error=error)

    def count_records(self, records: int, size: int) -> None:
        """Count answered records and their input in bytes."""
        with self.lock:
            self.counts.records += records
            self.counts.size += size

    def finish(self, finished: FinishedObject) -> None:
        """Count and report an object whose output is written, or which failed."""
        with self.lock:
            self.counts.count(finished)
            if self.plan.compressed and finished.reason is None:  # its size is not known before
                self.counts.size += finished.size
        self._on_finish(finished)


def build_outcome(
    counts: Counts,
    *,
    records_before: int,
    seconds: float,
    fatal: str = "",
    is_stopped: bool = False,
    is_empty: bool = False,
    notes: Iterable[str] = (),
    nodes: Iterable[NodeProgress] = (),
) -> Outcome:
    """Return the result of a run.

    Args:
        counts: the counts of the run.
        records_before: how many records earlier runs answered.
        seconds: how long the run took.
        fatal: why the run could not continue; empty if it could.
        is_stopped: the run was stopped before its last object.
        is_empty: the input has no object.
        notes: sentences that the user must read.
        nodes: what the nodes of a cluster have done.
    """
    failures = tuple(sorted(counts.failures, key=lambda failure: failure.uri))
    final: State = "Completed"
    reason = ""
    if fatal:
        final, reason = "Failed", fatal
    elif is_stopped:
        final = "Stopped"
    elif is_empty:
        final, reason = "Failed", NO_OBJECTS
    elif counts.failed:
        first = failures[0]
        where = f" at record {first.record}" if first.record is not None else ""
        objects = counts.objects + counts.failed + counts.skipped
        final = "Failed"
        reason = f"{counts.failed} of {objects} objects failed; the first is {first.uri}{where}: {first.reason}"
    return Outcome(
        state=final,
        objects=counts.objects + counts.skipped,
        failed=counts.failed,
        records=counts.records,
        size=counts.size,
        seconds=seconds,
        objects_before=counts.skipped,
        records_before=records_before,
        failures=failures,
        reason=reason,
        notes=tuple(notes),
        nodes=tuple(nodes),
    )
