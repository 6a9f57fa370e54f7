"""The engine: it runs a transform job to its end, on any object store and with any model client.

    list -> read, split, batch (readers) -> in-flight limit -> invoke (max_concurrent threads) -> in order -> write

Objects begin in the order of the listing. Memory holds only what the in-flight limit admits. The journal records what
is finished, and the next run of the same job continues from there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import DefinitionError
from tritonforge.transform.data_processing import Processing
from tritonforge.transform.job import EffectiveSettings, TransformJob, resolve_settings
from tritonforge.transform.journal import FinishedObject, Journal
from tritonforge.transform.listing import Listing, TotalCounter
from tritonforge.transform.model_client import ModelClient, RetryingInvoker
from tritonforge.transform.object_store import (
    ObjectStore,
    OutputNaming,
    StoreError,
    build_output_uri,
)
from tritonforge.transform.output_formats import SUFFIXES, OutputFormat, check_parquet
from tritonforge.transform.request_coalescer import RAW, RequestCoalescer
from tritonforge.transform.run_state import NO_OBJECTS, InputObject, Outcome, Progress, RunPlan, RunState, build_outcome
from tritonforge.transform.workers import InvokeWorker, ObjectReader, OutputWriter

__all__ = ["check", "check_format", "describe_job", "run"]

#: Seconds between two calls of ``on_progress``, and how soon a stop is noticed.
_PERIOD: Final = 0.1

#: More threads would wait for the disk, fewer for the network.
_MAX_READERS: Final = 4
_MAX_WRITERS: Final = 4

#: Members of a request that do not change a job's outputs.
_IRRELEVANT: Final = (
    "BatchStrategy", "DataCaptureConfig", "ExperimentConfig", "MaxConcurrentTransforms", "MaxPayloadInMB",
    "ModelClientConfig", "Tags", "TransformJobName", "TransformResources",
)  # fmt: skip


def check(job: TransformJob, *, source: ObjectStore, sink: ObjectStore) -> InputObject:
    """Check before a server is started that a job has objects and that its outputs can be written.

    Return its first object.

    Raises:
        DefinitionError: the job is invalid, or its input has no object.
        StoreError: the input cannot be listed, or outputs cannot be written.
        DecodeError: the input should be a manifest but is not.
    """
    _check_values(job)
    with closing(iter(Listing(job, source))) as listing:
        first = next(listing, None)
        if first is None:
            raise DefinitionError(f"{job.input.uri}: {NO_OBJECTS}")
    sink.check(job.output.uri)
    return first


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
    objects: Iterable[InputObject] | None = None,
    on_finish: Callable[[FinishedObject], None] = lambda finished: None,
    ended: threading.Event | None = None,
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
        objects: run these instead of the listing of the input, as a worker of a cluster does.
        on_finish: called by several threads with every object whose output is written or that failed.
        ended: set by the run when it begins no more work; ``objects`` that wait for more then end too.

    Raises:
        DefinitionError: the job is invalid, or ``work`` belongs to another job.
        JournalError: ``work`` cannot be used.
        MissingExtraError: pyarrow is not installed and ``output_format`` is "parquet".
    """
    _check_values(job)
    check_format(job, output_format)
    settings = resolve_settings(job, client.fetch_parameters())
    processing = Processing.from_job(job)
    ended = ended or threading.Event()
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
    description = describe_job(job, settings, output_format, naming=naming, share=share, model_identity=model_identity)
    with Journal(work, description) as journal:
        before = journal.count_finished()
        listing = Listing(job, source, naming, share)
        state = RunState(
            plan,
            objects=iter(listing if objects is None else objects),
            source=source,
            sink=sink,
            build_target=lambda key: build_output_uri(key, job.output.uri, SUFFIXES[output_format]),
            journal=journal,
            coalesced=1 if invoker.coalescer is None else invoker.coalescer.max_batch,
            ended=ended,
            on_finish=on_finish,
        )
        has_total = on_progress is not None and objects is None
        total = TotalCounter(Listing(job, source, naming, share), ended) if has_total else None
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
        return build_outcome(
            state.counts,
            records_before=before[1],
            seconds=time.monotonic() - state.started,
            fatal=state.fatal,
            is_stopped=state.unfinished and stop is not None and stop.is_set(),
            is_empty=objects is None and not listing.count,
            notes=notes,
        )


def describe_job(
    job: TransformJob,
    settings: EffectiveSettings,
    output_format: OutputFormat,
    *,
    naming: OutputNaming = "relative",
    share: tuple[int, int] = (0, 1),
    model_identity: str = "",
) -> dict[str, Any]:
    """Return everything that a job's outputs depend on, for its journal: equal on this machine and on a cluster."""
    return {
        **{name: value for name, value in job.to_request().items() if name not in _IRRELEVANT},
        "format": output_format,
        "naming": naming,
        "share": list(share),
        "model": model_identity,
        "strategy": settings.strategy,
        "payload": settings.max_payload,
        "chunked": settings.chunked,
    }


def check_format(job: TransformJob, output_format: OutputFormat) -> None:
    """Raise MissingExtraError if pyarrow is needed and missing, DefinitionError if the job excludes the format."""
    if output_format == "parquet":
        check_parquet()
    if output_format != "container" and job.data_processing is not None:
        raise DefinitionError("DataProcessing applies to the container's answers: it requires the format container")


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


def _report_progress(
    on_progress: Callable[[Progress], None] | None,
    state: RunState,
    before: tuple[int, int, int],
    total: TotalCounter | None,
) -> None:
    if on_progress is None:
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
            total_objects=None if total is None else total.objects,
            total_size=None if total is None else total.size,
        )
    )
