"""Runs what takes time: one `JobRunner` for each kind of resource whose status changes by itself.

Waits are divided by ``speed``: on AWS a creation takes some minutes and a deletion one. At speed 1 a creation takes
three seconds here, or as long as its containers need if that is longer; the waits of a DeploymentConfig take as long as
they state. What a container needs to start, and its timeouts, are never scaled.
"""

from __future__ import annotations

import secrets
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from tritonforge.emulator.control.api_errors import build_job_ended_error
from tritonforge.emulator.control.records import JobRecord, StatusRecord
from tritonforge.emulator.control.resource_store import AnyKind, ResourceKind, ResourceStore
from tritonforge.emulator.emulated_s3 import EmulatedS3

if TYPE_CHECKING:
    from tritonforge.emulator.control.fleet import Containers
    from tritonforge.emulator.control.request_context import Preconditions, RequestContext
    from tritonforge.emulator.control.training_jobs import Trainer
    from tritonforge.emulator.runtime import Runtime

__all__ = ["CREATION", "DELETION", "INTERNAL_ERROR", "NEXT", "REASON_LENGTH", "ROLLBACK", "SCALING", "UNFINISHED",
           "Delays", "JobRunner", "Services", "Task", "begin_stop", "complete", "fail",
           "make_instance_id", "mark_started", "shorten_reason", "stop"]  # fmt: skip

#: Seconds at speed 1.
CREATION: Final = 3.0
SCALING: Final = 2.0
ROLLBACK: Final = 2.0
DELETION: Final = 2.0

#: Seconds between two checks of an alarm, unscaled: the longest, and the shortest.
_MAX_PERIOD: Final = 1.0
_MIN_PERIOD: Final = 0.02

#: The statuses of a job that may follow a status: the service model's TransformJobStatus, TrainingJobStatus and
#: ProcessingJobStatus, which are the same. A job whose time is over goes to Stopped by itself.
NEXT: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "InProgress": frozenset({"Completed", "Failed", "Stopping", "Stopped"}),
        "Stopping": frozenset({"Stopped", "Failed"}),
        "Completed": frozenset(),
        "Failed": frozenset(),
        "Stopped": frozenset(),
    }
)

#: The statuses of a job that has not ended.
UNFINISHED: Final = frozenset({"InProgress", "Stopping"})

#: Characters of a FailureReason (the service model's maximum).
REASON_LENGTH: Final = 1024

#: AWS's sentence for an error of its own.
INTERNAL_ERROR: Final = "InternalServerError: We encountered an internal error. Please try again."

StatusT = TypeVar("StatusT", bound=StatusRecord)
JobT = TypeVar("JobT", bound=JobRecord)


def shorten_reason(reason: str) -> str:
    """Return a FailureReason of at most the 1024 characters that the service model allows."""
    return reason if len(reason) <= REASON_LENGTH else f"{reason[: REASON_LENGTH - 4]} ..."


def make_instance_id() -> str:
    """Return a name for an instance, as log streams have them."""
    return f"i-{secrets.token_hex(8)}0"


def mark_started(job: JobT, now: float) -> JobT:
    """Set the start time of a job, unless it is set: after a restart of the emulator it has started already."""
    return job if job.began is not None else replace(job, began=now, modified=now)


def complete(job: JobT, now: float) -> JobT:
    """Return the job as Completed."""
    return _change_status(job, "Completed", now, ended=now)


def fail(job: JobT, reason: str, now: float) -> JobT:
    """Return the job as Failed, with a FailureReason."""
    return _change_status(job, "Failed", now, ended=now, failure=shorten_reason(reason))


def begin_stop(job: JobT, now: float, *, noun: str) -> JobT:
    """Return the job as Stopping. Raises ApiError if it has ended or is Stopping already."""
    if "Stopping" not in NEXT[job.status]:
        raise build_job_ended_error(noun, job.status)
    return _change_status(job, "Stopping", now)


def stop(job: JobT, now: float) -> JobT:
    """Return the job as Stopped."""
    return _change_status(job, "Stopped", now, ended=now)


def _change_status(job: JobT, status: str, now: float, **changes: Any) -> JobT:
    if status not in NEXT[job.status]:
        raise ValueError(f"a job does not go from {job.status} to {status}")
    return replace(job, status=status, modified=now, **changes)


class Delays:
    """Waits that end early when ``closing`` is set."""

    def __init__(self, speed: float, closing: threading.Event) -> None:
        if not speed > 0:
            raise ValueError(f"speed is {speed}; it must be greater than 0")
        self._speed = speed
        self._closing = closing

    def wait(self, seconds: float) -> bool:
        """Wait a number of scaled seconds; return False if the wait was ended early."""
        return not self._closing.wait(max(seconds, 0.0) / self._speed)

    def wait_since(self, began: float, seconds: float) -> bool:
        """Wait the rest of a number of scaled seconds that began at a time of the monotonic clock."""
        return self.wait(seconds - (time.monotonic() - began) * self._speed)

    def split(self, seconds: float) -> list[float]:
        """Cut a number of scaled seconds into pieces, after each of which alarms are checked."""
        real = seconds / self._speed
        piece = min(_MAX_PERIOD, max(_MIN_PERIOD, real / 10))
        count = max(1, round(real / piece))
        return [seconds / count] * count


@dataclass(frozen=True, kw_only=True)
class Services:
    """What runners work with. ``runners`` are all of them by the name of their kind, filled once they are made.

    ``folder`` holds the containers' files, ``work`` what is kept of a job until it has ended, which outlives the
    process if the emulator has a state folder. ``write_line`` takes a line of a log (region, group, stream, line) and
    ``flush_lines`` writes what it has taken, so that the log of a job is complete when its status says that it ended;
    ``publish`` the metrics of a job (region, job, values), ``log`` one sentence for each thing that happens.
    """

    store: ResourceStore
    preconditions: Preconditions
    s3: EmulatedS3
    containers: Containers
    trainer: Trainer
    folder: Path
    work: Path
    images: Mapping[str, str]
    speed: float
    write_line: Callable[[str, str, str, str], None]
    flush_lines: Callable[[], None]
    publish: Callable[[str, str, list[Any]], None]
    log: Callable[[str], None]
    runtime: Callable[[str], Runtime]
    context: Callable[[str], RequestContext]
    runners: dict[str, JobRunner[Any]] = field(default_factory=dict)

    def find_runner(self, kind: AnyKind) -> JobRunner[Any]:
        """Return the runner of a kind."""
        return self.runners[kind.name]


@dataclass(eq=False)
class Task:
    """One thread at work for one resource.

    ``stop`` is set when the resource must come to its end early, ``kill`` when it must not wait any longer.
    ``interrupt`` is called, with the seconds to wait for requests in flight, to end what the thread waits for.
    """

    region: str
    name: str
    stop: threading.Event = field(default_factory=threading.Event)
    kill: threading.Event = field(default_factory=threading.Event)
    interrupt: Callable[[float], None] | None = None
    threads: list[threading.Thread] = field(default_factory=list)

    def join(self, deadline: float | None = None) -> None:
        """Wait for the threads, until a time of the monotonic clock at most."""
        for thread in self.threads:
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))


class JobRunner(ABC, Generic[StatusT]):
    """Brings the resources of one kind from status to status, each in a thread of its own. Safe for many threads.

    A subclass says what the work is (`run`), what becomes of a resource whose work raised (`fail`), and which resources
    have work to do after a restart (`is_unfinished`).
    """

    #: Seconds that requests in flight have when a job is stopped.
    drain = 5.0

    #: Seconds that tasks have to end by themselves when the emulator is stopped, before ``kill`` is set.
    grace = 0.0

    def __init__(self, services: Services, kind: ResourceKind[StatusT]) -> None:
        self.services = services
        self.store = services.store
        self.kind = kind
        self.closing = threading.Event()
        self._guard = threading.Lock()
        self._tasks: list[Task] = []

    @abstractmethod
    def run(self, task: Task) -> None:
        """Do the work that the status of a resource requires."""

    @abstractmethod
    def fail(self, task: Task, reason: str) -> None:
        """End a resource whose work raised an unexpected error."""

    def is_unfinished(self, record: StatusT) -> bool:
        """Return True if there is work to do for a resource after a restart."""
        return record.status in UNFINISHED

    def begin(self, region: str, name: str) -> None:
        """Start the work that the status of a resource asks for."""
        task = Task(region, name)
        with self._guard:
            if self.closing.is_set():
                return
            thread = threading.Thread(target=self._run, args=(task,), name=f"emulator-{name}", daemon=True)
            task.threads.append(thread)
            self._tasks.append(task)
            thread.start()

    def stop(self, region: str, name: str) -> None:
        """End the work for a resource early, without waiting for it; the resource's status is changed already."""
        with self._guard:
            for task in self._tasks:
                if (task.region, task.name) == (region, name) and not task.stop.is_set():
                    task.stop.set()
                    if task.interrupt is not None:
                        thread = threading.Thread(target=task.interrupt, args=(self.drain,), daemon=True)
                        task.threads.append(thread)
                        thread.start()

    def restore(self) -> None:
        """Resume the work for every unfinished resource, after a restart."""
        unfinished = [
            (region, record.name) for region, record in self.store.list_all(self.kind) if self.is_unfinished(record)
        ]
        for region, name in unfinished:
            self.begin(region, name)

    def close(self) -> None:
        """Stop every thread and what it runs; the store stays as it is."""
        with self._guard:
            self.closing.set()
            tasks = list(self._tasks)
        for task in tasks:
            task.stop.set()
            with self._guard:
                interrupt = task.interrupt
            if interrupt is not None:
                interrupt(0.0)
        deadline = time.monotonic() + self.grace
        for task in tasks:
            task.join(deadline)
        for task in tasks:
            task.kill.set()
        for task in tasks:
            task.join()

    def set_interrupt(self, task: Task, interrupt: Callable[[float], None]) -> None:
        """Set how a task is interrupted; call it at once if the emulator is being stopped."""
        with self._guard:
            task.interrupt = interrupt
        if self.closing.is_set():
            interrupt(0.0)

    def change(self, task: Task, change: Callable[[StatusT, float], StatusT]) -> StatusT:
        """Write what a function makes of the task's resource and the time of the change; return it."""
        return self.store.change(self.kind, task.region, task.name, change)

    def find(self, task: Task) -> StatusT:
        """Return the task's resource, which exists while its task does."""
        record = self.store.find(self.kind, task.region, task.name)
        assert record is not None
        return record

    def log_status(self, record: StatusT, name: str | None = None) -> None:
        """Report the status that a resource has reached."""
        reason = f": {record.failure}" if record.failure else ""
        self.services.log(f"{self.kind.noun} {name or record.name} {record.status}{reason}")

    def _run(self, task: Task) -> None:
        try:
            self.run(task)
        except Exception as error:  # the last frame of the thread: an error must reach the log and the record
            self.services.log(f"{self.kind.noun} {task.name}: {type(error).__name__}: {error}")
            if not self.closing.is_set():
                self.fail(task, f"{type(error).__name__}: {error}")
        finally:
            with self._guard:
                self._tasks.remove(task)
