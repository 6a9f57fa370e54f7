"""A worker of a cluster: one tritonserver, and one run of the engine over the objects that the driver sends.

The run lasts as long as the worker, so that the server is never drained between two lots of objects. Another
module carries its messages. Its journal is temporary: the driver's is the one that counts.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

from tritonforge.errors import LaunchError, TritonForgeError
from tritonforge.transform.cluster.messages import WorkerReport, WorkerSettings
from tritonforge.transform.engine import run
from tritonforge.transform.job import build_container_environment
from tritonforge.transform.journal import FinishedObject
from tritonforge.transform.local_server import LocalServer, choose_requests_in_flight, identify_repository
from tritonforge.transform.model_client import ModelClient
from tritonforge.transform.object_store import ObjectStore, StoreError
from tritonforge.transform.request_coalescer import RequestCoalescer
from tritonforge.transform.run_state import InputObject, Outcome, Progress

__all__ = ["OpenClient", "TransformWorker", "open_local_server"]

#: Seconds between two looks at whether the run has ended, and between two reports without news.
_PERIOD: Final = 0.1
_HEARTBEAT: Final = 1.0

#: Seconds in which finished objects are gathered into a report, and how many of them it has at most: a report must be
#: small enough to travel inside of Ray's own message, since what is in a node's memory is lost with the node.
_GATHER: Final = 0.02
_MAX_FINISHED: Final = 100

#: Opens the model of a worker: settings, path of the repository, callbacks for its start and for notes.
OpenClient: TypeAlias = Callable[
    [WorkerSettings, Path, Callable[[str], None], Callable[[str], None]],
    AbstractContextManager[tuple[ModelClient, RequestCoalescer | None]],
]


@contextmanager
def open_local_server(
    settings: WorkerSettings, repository: Path, on_start: Callable[[str], None], on_note: Callable[[str], None]
) -> Iterator[tuple[ModelClient, RequestCoalescer | None]]:
    """Start a tritonserver on this node; yield its client, and how it accepts several records at once."""
    server = LocalServer(
        repository,
        default_model=settings.model,
        environment=build_container_environment(settings.job),
        connections=settings.job.max_concurrent_transforms or 1,
        on_progress=on_start,
        on_restart=on_note,
    )
    with server:
        for warning in server.server.warnings:
            on_note(warning)
        yield server, None if settings.gathering == "never" else server.probe_coalescer()


class ObjectQueue:
    """The objects of a worker as they come; iterating waits for more until `close` is called or the run has ended."""

    def __init__(self, ended: threading.Event) -> None:
        self._objects: queue.SimpleQueue[InputObject | None] = queue.SimpleQueue()
        self._ended = ended

    def put(self, objects: Iterable[InputObject]) -> None:
        """Add objects."""
        for given in objects:
            self._objects.put(given)

    def close(self) -> None:
        """Add the end."""
        self._objects.put(None)

    def __iter__(self) -> Iterator[InputObject]:
        while not self._ended.is_set():
            try:
                given = self._objects.get(timeout=_PERIOD)
            except queue.Empty:
                continue
            if given is None:
                return
            yield given


class TransformWorker:
    """One worker: `reports` runs it and yields what it does; other threads call the other methods meanwhile."""

    def __init__(
        self, settings: WorkerSettings, name: str, *, cpus: float = 1.0, open_client: OpenClient = open_local_server
    ) -> None:
        self._settings = replace(settings, job=choose_requests_in_flight(settings.job, cpus))
        self._name = name
        self._open_client = open_client
        self._ended = threading.Event()
        self._stop = threading.Event()
        self._objects = ObjectQueue(self._ended)
        self._is_closed = False
        self._repository: queue.SimpleQueue[Path | TritonForgeError] = queue.SimpleQueue()
        self._news = threading.Condition()
        self._waiting: list[WorkerReport] = []
        self._finished: list[FinishedObject] = []
        self._notes: list[str] = []
        self._given = self._reported = 0
        self._records = self._size = 0

    def put(self, objects: Sequence[InputObject]) -> None:
        """Take objects."""
        self._given += len(objects)
        self._objects.put(objects)

    def close(self) -> None:
        """End when all objects are finished: no more follow."""
        self._is_closed = True
        self._objects.close()

    def stop(self) -> None:
        """End when the requests in flight are finished."""
        self._stop.set()
        self._objects.close()

    def provide_repository(self, repository: Path | TritonForgeError) -> None:
        """Take the model repository that a report with ``needs_repository`` asks for, or why it is missing."""
        self._repository.put(repository)

    def reports(self) -> Iterator[WorkerReport]:
        """Run the worker; yield news as they come. The last report has ``has_ended``."""
        thread = threading.Thread(target=self._work, name="transform-worker", daemon=True)
        thread.start()
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._finished or self._notes, timeout=_HEARTBEAT)
            if len(self._finished) < _MAX_FINISHED:
                time.sleep(_GATHER)
            with self._news:
                report = self._waiting.pop(0) if self._waiting and not self._finished else None
            if report is not None and report.has_ended:
                thread.join()
            yield report if report is not None else self._build_report()
            if report is not None and report.has_ended:
                return

    def _build_report(self) -> WorkerReport:
        with self._news:
            finished, self._finished = self._finished[:_MAX_FINISHED], self._finished[_MAX_FINISHED:]
            notes, self._notes = tuple(self._notes), []
            return WorkerReport(finished=tuple(finished), notes=notes, records=self._records, size=self._size)

    def _work(self) -> None:
        outcome: Outcome | None = None
        try:
            outcome = self._run()
            is_done = self._is_closed and self._given == self._reported
            reason = "" if is_done or self._stop.is_set() else outcome.reason or "its run of the job ended early"
        except TritonForgeError as error:
            reason = str(error)
        except BaseException as error:  # reported to the driver, which raises nothing of a worker
            reason = f"internal error: {error!r}"
        summary = () if outcome is None else outcome.notes
        with self._news:
            last = WorkerReport(
                has_ended=True, reason=reason, summary=summary, notes=tuple(self._notes),
                records=self._records, size=self._size,
            )  # fmt: skip
            self._waiting.append(last)
            self._news.notify_all()

    def _run(self) -> Outcome:
        settings = self._settings
        source = settings.open_source()
        sink = settings.open_sink(self._name)
        self._check_stores(source, sink)
        repository = self._find_repository()
        with self._open_client(settings, repository, self._report_detail, self._report_note) as (client, coalescer):
            concurrent = settings.job.max_concurrent_transforms or 1
            is_whole = settings.job.input.split_type in (None, "None")
            # Objects that are requests themselves wait in requests of several, and one lot more waits to be sent.
            batch = 1 if coalescer is None else coalescer.max_batch
            self._report(WorkerReport(capacity=2 * concurrent * batch if is_whole else concurrent))
            return run(
                settings.job,
                source=source,
                sink=sink,
                client=client,
                output_format=settings.output_format,
                coalescer=coalescer,
                always_coalesce=settings.gathering == "always",
                on_progress=self._count_progress,
                stop=self._stop,
                objects=self._objects,
                on_finish=self._report_finished,
                ended=self._ended,
            )

    def _check_stores(self, source: ObjectStore, sink: ObjectStore) -> None:
        """Check that this node sees what the driver sees."""
        first, marker = self._settings.first, self._settings.marker
        if first is not None:
            seen = source.find(first.uri)
            if seen is None or seen.size != first.size:
                what = "does not exist" if seen is None else f"has {seen.size} bytes, not {first.size},"
                raise LaunchError(
                    f"INPUT {first.uri} {what} on this node. A directory must be shared by all nodes; S3 need not be"
                )
        if marker is not None and not _has_content(sink, *marker):
            raise LaunchError(
                f"OUTPUT {self._settings.job.output.uri} is another directory on this node. A directory must be shared "
                "by all nodes; S3 need not be"
            )

    def _find_repository(self) -> Path:
        """Return the repository's path if this node sees the same one, else wait for the driver's copy of it."""
        repository = Path(self._settings.repository)
        if repository.is_dir() and identify_repository(repository) == self._settings.identity:
            return repository
        self._report(WorkerReport(needs_repository=True))
        while not self._stop.is_set():
            try:
                provided = self._repository.get(timeout=_PERIOD)
            except queue.Empty:
                continue
            if isinstance(provided, TritonForgeError):
                raise provided
            return provided
        raise LaunchError("the job was stopped")

    def _report(self, report: WorkerReport) -> None:
        with self._news:
            self._waiting.append(report)
            self._news.notify_all()

    def _report_detail(self, detail: str) -> None:
        self._report(WorkerReport(detail=detail))

    def _report_note(self, note: str) -> None:
        with self._news:
            self._notes.append(note)
            self._news.notify_all()

    def _report_finished(self, finished: FinishedObject) -> None:
        with self._news:
            self._reported += 1
            self._finished.append(finished)
            self._news.notify_all()

    def _count_progress(self, progress: Progress) -> None:
        with self._news:
            self._records, self._size = progress.records, progress.size


def _has_content(store: ObjectStore, uri: str, content: bytes) -> bool:
    try:
        return b"".join(map(bytes, store.open(uri))) == content
    except StoreError:
        return False
