"""The engine: a transform job run to its end, on any place, against any server that speaks as SageMaker's containers.

    list -> read, split, batch (readers) -> window -> ask (max_concurrent threads) -> in order -> put (deliverers)

Objects are begun in the order of the listing; of a job's input and output only the window is held in memory. What is
finished is in the journal, from which the next run of the same job goes on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import DecodeError, DefinitionError, TritonForgeError
from tritonforge.records.manifest import manifest_uris
from tritonforge.transform import tables
from tritonforge.transform.answering import Answerer
from tritonforge.transform.asker import Asker
from tritonforge.transform.asking import Asking
from tritonforge.transform.course import Course, Listed, Plan
from tritonforge.transform.delivering import Deliverer
from tritonforge.transform.forms import SUFFIXES, Form
from tritonforge.transform.gathering import RAW, Gathering
from tritonforge.transform.job import TransformJob
from tritonforge.transform.joining import Processing
from tritonforge.transform.journal import Journal
from tritonforge.transform.naming import Naming, output_uri, relative_key
from tritonforge.transform.outcomes import Outcome, Progress, State
from tritonforge.transform.places import Place, PlaceError
from tritonforge.transform.precedence import resolved
from tritonforge.transform.reading import Reader

__all__ = ["check", "run"]

#: Seconds between two calls of ``progress``, and how soon a stop is seen.
_PERIOD: Final = 0.1

#: More threads would wait for the disk, fewer for the network.
_MOST_READERS: Final = 4
_MOST_DELIVERERS: Final = 4

_NOTHING: Final = "there is no object to transform: nothing is listed at the input's address"


def check(job: TransformJob, *, source: Place, sink: Place) -> None:
    """Find out whether a job has work to do and a place for it, before a server is started for it; it writes nothing.

    Raises:
        DefinitionError: the job itself is wrong, or its input has no object.
        PlaceError: the input cannot be listed, or outputs cannot be put.
        DecodeError: the input is to be a manifest, and is none.
    """
    if problems := job.problems():
        raise DefinitionError("; ".join(problems))
    with closing(iter(_Listing(job, source, "relative", (0, 1)))) as listing:
        if next(listing, None) is None:
            raise DefinitionError(f"{job.input.uri}: {_NOTHING}")
    sink.check(job.output.uri)


def run(
    job: TransformJob,
    *,
    source: Place,
    sink: Place,
    asker: Asker,
    work: Path | None = None,
    form: Form = "container",
    gathering: Gathering | None = None,
    gather_always: bool = False,
    naming: Naming = "relative",
    share: tuple[int, int] = (0, 1),
    identity: str = "",
    progress: Callable[[Progress], None] | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run a job, or what an earlier run of it left, and tell how it ended.

    ``work`` is a folder for what is not finished yet; with the same folder the next run goes on there, however this one
    ends. It may be removed once the job has Completed. Without it every run begins anew. ``form`` is what is written of
    the answers. ``gathering`` says how the server takes several records at once, where it does; unless
    ``gather_always``, it is given up when it changes an answer. ``share`` (i, n) runs every n-th object from the i-th
    on, for one of n instances. ``identity`` is a text that changes when the model does: outputs of two models are not
    mixed. ``progress`` is called ten times a second, ``stop`` ends the job once it is set.

    What fails is told in the outcome. Raises DefinitionError where the job itself is wrong, or ``work`` is another
    job's; JournalError where ``work`` cannot be used; MissingExtraError.
    """
    if problems := job.problems():
        raise DefinitionError("; ".join(problems))
    if form == "parquet":
        tables.check_parquet()
    if form != "container" and job.data_processing is not None:
        raise DefinitionError("DataProcessing works on what the container answers; leave the form as it is")
    effective = resolved(job, asker.execution_parameters())
    processing = Processing.of(job)
    ended = threading.Event()
    notes: list[str] = []
    raw = job.input.content_type == RAW and processing is None
    asking = Asking(
        asker,
        content_type=job.input.content_type,
        accept=job.output.accept,
        timeout=effective.timeout,
        retries=effective.retries,
        stop=ended,
        gathering=gathering if raw and not effective.chunked else None,
        trusted=gather_always,
        note=notes.append,
    )
    plan = Plan(
        effective=effective,
        split_type=job.input.split_type or "None",
        compressed=job.input.compression_type == "Gzip",
        assemble_with=job.output.assemble_with or "None",
        form=form,
        processing=processing,
    )
    described = {**_described(job), "form": form, "naming": naming, "share": list(share), "model": identity}
    described |= {"strategy": effective.strategy, "payload": effective.max_payload, "chunked": effective.chunked}
    with Journal(work, described) as journal:
        before = journal.before()
        listing = _Listing(job, source, naming, share)
        course = Course(
            plan,
            listing=iter(listing),
            source=source,
            sink=sink,
            target=lambda key: output_uri(key, job.output.uri, SUFFIXES[form]),
            journal=journal,
            gathered=1 if asking.gathering is None else asking.gathering.max_batch,
            ended=ended,
        )
        total = _Total(_Listing(job, source, naming, share), ended) if progress is not None else None
        try:
            sink.check(job.output.uri)
        except PlaceError as error:
            course.end(str(error))
        _work(course, asking, stop or threading.Event(), lambda: _tell(progress, course, before, total))
        ended.set()  # the count of all objects may still go on
        if course.broken is not None:
            raise course.broken
        return _outcome(course, listing, before, notes, stopped=stop is not None and stop.is_set())


def _work(course: Course, asking: Asking, stop: threading.Event, tell: Callable[[], None]) -> None:
    """Start the threads, and wait for them; after a stop they finish what is under way."""
    concurrent = course.plan.effective.max_concurrent
    readers = _started("reader", Reader(course).work, min(_MOST_READERS, max(2, concurrent)))
    askers = _started("asker", Answerer(course, asking).work, concurrent)
    deliverers = _started("deliverer", Deliverer(course).work, min(_MOST_DELIVERERS, max(2, concurrent)))
    try:
        for threads, end in ((readers, course.tasks.put), (askers, course.finished.put), (deliverers, None)):
            following = len(askers) if threads is readers else len(deliverers)
            for thread in threads:
                while thread.is_alive():
                    thread.join(_PERIOD)
                    if stop.is_set():
                        course.end()
                    tell()
            if end is not None:
                for _ in range(following):
                    end(None)
    except BaseException:
        course.end()  # the threads are daemons, and see it
        raise
    tell()


def _started(name: str, work: Callable[[], None], count: int) -> list[threading.Thread]:
    threads = [threading.Thread(target=work, name=f"transform-{name}", daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    return threads


class _Listing:
    """The objects of a job, as they are listed; ``count`` is how many there were so far."""

    def __init__(self, job: TransformJob, source: Place, naming: Naming, share: tuple[int, int]) -> None:
        self._job = job
        self._source = source
        self._naming = naming
        self._share = share
        self.count = 0

    def __iter__(self) -> Generator[Listed, None, None]:
        index, instances = self._share
        for number, listed in enumerate(self._all()):
            self.count += 1
            if number % instances == index:
                yield listed

    def _all(self) -> Iterator[Listed]:
        uri = self._job.input.uri
        if self._job.input.data_type == "ManifestFile":
            try:
                for each, prefix in manifest_uris(self._source.open(uri)):
                    yield Listed(each, relative_key(each, prefix, self._naming), None)
            except DecodeError as error:
                raise DecodeError(f"{uri}: {error}") from error
            return
        for found in self._source.list(uri):
            if not (found.uri.endswith("/") and not found.size):  # S3's mark of an empty folder
                yield Listed(found.uri, relative_key(found.uri, uri, self._naming), found)


class _Total:
    """How many objects there are and how large, counted beside the work."""

    def __init__(self, listing: _Listing, ended: threading.Event) -> None:
        self.objects: int | None = None
        self.size: int | None = None
        self._listing = listing
        self._ended = ended
        threading.Thread(target=self._count, name="transform-total", daemon=True).start()

    def _count(self) -> None:
        objects, size, known = 0, 0, True
        try:
            with closing(iter(self._listing)) as listing:
                for listed in listing:
                    objects += 1
                    known = known and listed.found is not None
                    size += 0 if listed.found is None else listed.found.size
                    if self._ended.is_set():
                        return
        except TritonForgeError:
            return  # the readers meet it too, and tell
        self.objects, self.size = objects, size if known else None


def _tell(
    progress: Callable[[Progress], None] | None, course: Course, before: tuple[int, int, int], total: _Total | None
) -> None:
    if progress is None or total is None:
        return
    counts = course.counts
    progress(
        Progress(
            objects=counts.objects,
            failed=counts.failed,
            records=counts.records,
            size=counts.size,
            seconds=time.monotonic() - course.began,
            objects_before=before[0],
            records_before=before[1],
            size_before=before[2],
            total_objects=total.objects,
            total_size=total.size,
        )
    )


def _outcome(
    course: Course, listing: _Listing, before: tuple[int, int, int], notes: list[str], *, stopped: bool
) -> Outcome:
    counts = course.counts
    state: State = "Completed"
    reason = ""
    if course.fatal:
        state, reason = "Failed", course.fatal
    elif course.unfinished and stopped:
        state = "Stopped"
    elif not listing.count:
        state, reason = "Failed", _NOTHING
    elif counts.failed:
        first = min(counts.failures, key=lambda each: each.uri)
        where = f" at record {first.record}" if first.record is not None else ""
        objects = counts.objects + counts.failed + counts.skipped
        state = "Failed"
        reason = f"{counts.failed} of {objects} objects failed; the first is {first.uri}{where}: {first.reason}"
    return Outcome(
        state=state,
        objects=counts.objects + counts.skipped,
        failed=counts.failed,
        records=counts.records,
        size=counts.size,
        seconds=time.monotonic() - course.began,
        objects_before=counts.skipped,
        records_before=before[1],
        failures=tuple(sorted(counts.failures, key=lambda each: each.uri)),
        reason=reason,
        notes=tuple(notes),
    )


def _described(job: TransformJob) -> dict[str, Any]:
    """What of a job its outputs depend on."""
    request = job.to_request()
    for name in ("MaxConcurrentTransforms", "ModelClientConfig", "TransformJobName", "TransformResources", "Tags"):
        request.pop(name, None)
    for name in ("DataCaptureConfig", "ExperimentConfig", "MaxPayloadInMB", "BatchStrategy"):
        request.pop(name, None)
    return request
