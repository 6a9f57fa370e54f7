"""The engine: it runs a transform job to its end, on any object store and with any model client.

    list -> read, split, batch (readers) -> in-flight limit -> invoke (max_concurrent threads) -> in order -> write

Objects begin in the order of the listing. Memory holds only what the in-flight limit admits. The journal records what
is finished, and the next run of the same job continues from there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import DecodeError, DefinitionError, TritonForgeError
from tritonforge.records.manifest import read_manifest_uris
from tritonforge.transform.data_processing import Processing
from tritonforge.transform.job import TransformJob, resolve_settings
from tritonforge.transform.journal import Journal
from tritonforge.transform.model_client import ModelClient, RetryingInvoker
from tritonforge.transform.object_store import (
    ObjectStore,
    OutputNaming,
    StoreError,
    build_output_uri,
    build_relative_key,
)
from tritonforge.transform.output_formats import SUFFIXES, OutputFormat, check_parquet
from tritonforge.transform.request_coalescer import RAW, RequestCoalescer
from tritonforge.transform.run_state import InputObject, Outcome, Progress, RunPlan, RunState, State
from tritonforge.transform.workers import InvokeWorker, ObjectReader, OutputWriter

__all__ = ["check", "run"]

#: Seconds between two calls of ``on_progress``, and how soon a stop is noticed.
_PERIOD: Final = 0.1

#: More threads would wait for the disk, fewer for the network.
_MAX_READERS: Final = 4
_MAX_WRITERS: Final = 4

_NO_OBJECTS: Final = "no objects to transform: the listing of the input is empty"

#: Members of a request that do not change a job's outputs.
_IRRELEVANT: Final = (
    "BatchStrategy", "DataCaptureConfig", "ExperimentConfig", "MaxConcurrentTransforms", "MaxPayloadInMB",
    "ModelClientConfig", "Tags", "TransformJobName", "TransformResources",
)  # fmt: skip


def check(job: TransformJob, *, source: ObjectStore, sink: ObjectStore) -> None:
    """Check before a server is started that a job has objects and that its outputs can be written.

    Raises:
        DefinitionError: the job is invalid, or its input has no object.
        StoreError: the input cannot be listed, or outputs cannot be written.
        DecodeError: the input should be a manifest but is not.
    """
    _check_values(job)
    with closing(iter(_Listing(job, source, "relative", (0, 1)))) as listing:
        if next(listing, None) is None:
            raise DefinitionError(f"{job.input.uri}: {_NO_OBJECTS}")
    sink.check(job.output.uri)


def run(
    job: TransformJob,
    *,
    source: ObjectStore,
    sink: ObjectStore,
    client: ModelClient,
    work: Path | None = None,
    output_format: OutputFormat = "container",
    coalescer: RequestCoalescer | None = None,
    always_coalesce: bool = False,
    naming: OutputNaming = "relative",
    share: tuple[int, int] = (0, 1),
    model_identity: str = "",
    on_progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run a job, or what an earlier run left of it, and return its outcome. Failures of objects are in the outcome.

    Args:
        job: the job.
        source: the store of the input.
        sink: the store of the outputs.
        client: sends requests to the model.
        work: a directory for unfinished work. The next run with the same directory continues there, however this one
            ends. It may be removed once the job has completed. Without it every run starts from the beginning.
        output_format: what is written of the responses.
        coalescer: how the model accepts several records at once, None if it does not.
        always_coalesce: coalesce even if that changes an answer; otherwise the job then sends records one by one.
        naming: how outputs are named.
        share: (i, n) runs every n-th object from the i-th on, for one of n instances.
        model_identity: a text that changes when the model does, so that outputs of two models are never mixed.
        on_progress: called ten times a second.
        stop: ends the job once it is set.

    Raises:
        DefinitionError: the job is invalid, or ``work`` belongs to another job.
        JournalError: ``work`` cannot be used.
        MissingExtraError: pyarrow is not installed and ``output_format`` is "parquet".
    """
    _check_values(job)
    if output_format == "parquet":
        check_parquet()
    if output_format != "container" and job.data_processing is not None:
        raise DefinitionError("DataProcessing applies to the container's answers: it requires the format container")
    settings = resolve_settings(job, client.fetch_parameters())
    processing = Processing.from_job(job)
    ended = threading.Event()
    notes: list[str] = []
    is_raw = job.input.content_type == RAW and processing is None
    invoker = RetryingInvoker(
        client,
        content_type=job.input.content_type,
        accept=job.output.accept,
        timeout=settings.timeout,
        retries=settings.retries,
        stop=ended,
        coalescer=coalescer if is_raw and not settings.chunked else None,
        trusted=always_coalesce,
        on_note=notes.append,
    )
    plan = RunPlan(
        settings=settings,
        split_type=job.input.split_type or "None",
        compressed=job.input.compression_type == "Gzip",
        assemble_with=job.output.assemble_with or "None",
        output_format=output_format,
        processing=processing,
    )
    # Everything that the outputs depend on.
    description: dict[str, Any] = {
        **{name: value for name, value in job.to_request().items() if name not in _IRRELEVANT},
        "format": output_format,
        "naming": naming,
        "share": list(share),
        "model": model_identity,
        "strategy": settings.strategy,
        "payload": settings.max_payload,
        "chunked": settings.chunked,
    }
    with Journal(work, description) as journal:
        before = journal.count_finished()
        listing = _Listing(job, source, naming, share)
        state = RunState(
            plan,
            objects=iter(listing),
            source=source,
            sink=sink,
            build_target=lambda key: build_output_uri(key, job.output.uri, SUFFIXES[output_format]),
            journal=journal,
            coalesced=1 if invoker.coalescer is None else invoker.coalescer.max_batch,
            ended=ended,
        )
        total = _Total(_Listing(job, source, naming, share), ended) if on_progress is not None else None
        try:
            sink.check(job.output.uri)
        except StoreError as error:
            state.end(str(error))
        _run_threads(
            state, invoker, stop or threading.Event(), lambda: _report_progress(on_progress, state, before, total)
        )
        ended.set()  # ends the thread that counts all objects
        if state.internal_error is not None:
            raise state.internal_error
        return _build_outcome(state, listing, before, notes, stopped=stop is not None and stop.is_set())


def _check_values(job: TransformJob) -> None:
    if problems := job.find_problems():
        raise DefinitionError("; ".join(problems))


def _run_threads(
    state: RunState, invoker: RetryingInvoker, stop: threading.Event, report_progress: Callable[[], None]
) -> None:
    """Start the threads and wait for them. After a stop they finish the requests in flight."""
    concurrent = state.plan.settings.max_concurrent
    readers = _start_threads("reader", ObjectReader(state).work, min(_MAX_READERS, max(2, concurrent)))
    invokers = _start_threads("invoker", InvokeWorker(state, invoker).work, concurrent)
    writers = _start_threads("writer", OutputWriter(state).work, min(_MAX_WRITERS, max(2, concurrent)))
    try:
        _join_threads(readers, state, stop, report_progress)
        for _ in invokers:
            state.tasks.put(None)
        _join_threads(invokers, state, stop, report_progress)
        for _ in writers:
            state.completed.put(None)
        _join_threads(writers, state, stop, report_progress)
    except BaseException:
        state.end()  # the threads are daemons and notice it
        raise
    report_progress()


def _start_threads(name: str, work: Callable[[], None], count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, name=f"transform-{name}", daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


def _join_threads(
    threads: list[threading.Thread], state: RunState, stop: threading.Event, report_progress: Callable[[], None]
) -> None:
    for thread in threads:
        while thread.is_alive():
            thread.join(_PERIOD)
            if stop.is_set():
                state.end()
            report_progress()


class _Listing:
    """The objects of a job, in the order of the listing. ``count`` is how many were listed so far."""

    def __init__(self, job: TransformJob, source: ObjectStore, naming: OutputNaming, share: tuple[int, int]) -> None:
        self._job = job
        self._source = source
        self._naming = naming
        self._share = share
        self.count = 0

    def __iter__(self) -> Generator[InputObject, None, None]:
        index, instances = self._share
        for number, listed in enumerate(self._list_all()):
            self.count += 1
            if number % instances == index:
                yield listed

    def _list_all(self) -> Iterator[InputObject]:
        uri = self._job.input.uri
        if self._job.input.data_type == "ManifestFile":
            try:
                for listed, prefix in read_manifest_uris(self._source.open(uri)):
                    yield InputObject(listed, build_relative_key(listed, prefix, self._naming), None)
            except DecodeError as error:
                raise DecodeError(f"{uri}: {error}") from error
            return
        for stored in self._source.list(uri):
            if not (stored.uri.endswith("/") and not stored.size):  # S3's mark of an empty folder
                yield InputObject(stored.uri, build_relative_key(stored.uri, uri, self._naming), stored)


class _Total:
    """Counts the objects and their sizes in a thread of its own."""

    def __init__(self, listing: _Listing, ended: threading.Event) -> None:
        self.objects: int | None = None
        self.size: int | None = None
        self._listing = listing
        self._ended = ended
        threading.Thread(target=self._count, name="transform-total", daemon=True).start()

    def _count(self) -> None:
        objects, size, is_known = 0, 0, True
        try:
            with closing(iter(self._listing)) as listing:
                for listed in listing:
                    objects += 1
                    is_known = is_known and listed.stored is not None
                    size += 0 if listed.stored is None else listed.stored.size
                    if self._ended.is_set():
                        return
        except TritonForgeError:
            return  # the readers meet it too, and report it
        self.objects, self.size = objects, size if is_known else None


def _report_progress(
    on_progress: Callable[[Progress], None] | None,
    state: RunState,
    before: tuple[int, int, int],
    total: _Total | None,
) -> None:
    if on_progress is None or total is None:
        return
    counts = state.counts
    on_progress(
        Progress(
            objects=counts.objects,
            failed=counts.failed,
            records=counts.records,
            size=counts.size,
            seconds=time.monotonic() - state.started,
            objects_before=before[0],
            records_before=before[1],
            size_before=before[2],
            total_objects=total.objects,
            total_size=total.size,
        )
    )


def _build_outcome(
    state: RunState, listing: _Listing, before: tuple[int, int, int], notes: list[str], *, stopped: bool
) -> Outcome:
    counts = state.counts
    failures = tuple(sorted(counts.failures, key=lambda failure: failure.uri))
    final: State = "Completed"
    reason = ""
    if state.fatal:
        final, reason = "Failed", state.fatal
    elif state.unfinished and stopped:
        final = "Stopped"
    elif not listing.count:
        final, reason = "Failed", _NO_OBJECTS
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
        seconds=time.monotonic() - state.started,
        objects_before=counts.skipped,
        records_before=before[1],
        failures=failures,
        reason=reason,
        notes=tuple(notes),
    )
