"""The course of one run: what its threads share. The plan, what is on its way, what is counted, whether it ends."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from tritonforge.records import AssembleWith, Buffer, SplitType
from tritonforge.transform.forms import Form
from tritonforge.transform.joining import Processing
from tritonforge.transform.journal import Journal
from tritonforge.transform.objects import Underway
from tritonforge.transform.outcomes import Failure
from tritonforge.transform.places import CHUNK, Found, Place
from tritonforge.transform.precedence import Effective
from tritonforge.transform.window import Window

__all__ = ["Counts", "Course", "Listed", "Plan", "Task"]

#: Objects that are whole, and may wait to be put away.
_FINISHED: Final = 64

#: Failures that are kept with their reasons.
_FAILURES: Final = 1000


@dataclass(frozen=True, slots=True)
class Listed:
    """An object of the job's input: its address, its output's key, and what is known of it, None where it is not."""

    uri: str
    key: str
    found: Found | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is done with every object."""

    effective: Effective
    split_type: SplitType
    compressed: bool
    assemble_with: AssembleWith
    form: Form
    processing: Processing | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One request: ``count`` records from ``record`` on, after which the object goes on at byte ``end``.

    ``body`` is what the object has there; for one of any size it is a ``stream``, made anew for each attempt. ``size``
    is what the request takes of the window, ``span`` how many bytes of the object it stands for.
    """

    underway: Underway
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
    """What was done in this run; ``size`` is in bytes of input, ``skipped`` were finished by an earlier one."""

    objects: int = 0
    failed: int = 0
    skipped: int = 0
    records: int = 0
    size: int = 0
    failures: list[Failure] = field(default_factory=list)


class Course:
    """The state of one run; for use by all its threads.

    ``ended`` is set when nothing more is to be begun: the job was stopped, or it cannot go on, and ``fatal`` says why.
    ``broken`` is a defect of ours that a thread ran into; ``unfinished`` says that something is left to do.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        listing: Iterator[Listed],
        source: Place,
        sink: Place,
        target: Callable[[str], str],
        journal: Journal,
        gathered: int,
        ended: threading.Event,
    ) -> None:
        self.plan = plan
        self.source = source
        self.sink = sink
        self.target = target
        self.journal = journal
        self.ended = ended
        self.fatal = ""
        self.broken: BaseException | None = None
        self.unfinished = False
        self.counts = Counts()
        self.began = time.monotonic()
        concurrent = plan.effective.max_concurrent
        # Twice what is asked at once: the next request is ready when an answer comes.
        self.window = Window(
            records=2 * concurrent * gathered, size=(concurrent + 2) * max(CHUNK, plan.effective.max_payload)
        )
        self.tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self.finished: queue.Queue[Underway | None] = queue.Queue(_FINISHED)
        self.lock = threading.Lock()
        self._listing = listing
        self._listing_lock = threading.Lock()

    def next(self) -> Listed | None:
        """The next object of the job, None after the last. Raises what the listing raises."""
        with self._listing_lock:
            if self.ended.is_set():
                self.unfinished = True
                return None
            return next(self._listing, None)

    def end(self, fatal: str = "", *, broken: BaseException | None = None) -> None:
        """Begin nothing more; ``fatal`` is why no other object can be finished either."""
        with self.lock:
            self.fatal = self.fatal or fatal
            self.broken = self.broken or broken
        self.ended.set()
        self.window.close()

    def answered(self, records: int, size: int) -> None:
        """Records of the input have their answers."""
        with self.lock:
            self.counts.records += records
            self.counts.size += size

    def done(self, size: int) -> None:
        """An object has its output, by which so many bytes more of the input are done."""
        with self.lock:
            self.counts.objects += 1
            self.counts.size += size

    def failed(self, uri: str, reason: str, record: int | None) -> None:
        """An object has none."""
        with self.lock:
            self.counts.failed += 1
            if len(self.counts.failures) < _FAILURES:
                self.counts.failures.append(Failure(uri, reason, record))
