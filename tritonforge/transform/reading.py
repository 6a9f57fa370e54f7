"""Reading: an object becomes the requests of its records, as fast as the window lets them in."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial

from tritonforge.errors import TritonForgeError
from tritonforge.records import Buffer, Record, RecordError, batches, gunzip, split
from tritonforge.transform.course import Course, Listed, Task
from tritonforge.transform.objects import Underway
from tritonforge.transform.places import Found, PlaceError

__all__ = ["Reader"]


class Reader:
    """What the reading threads do."""

    def __init__(self, course: Course) -> None:
        self._course = course

    def work(self) -> None:
        """Read objects until there are no more, or the run ends."""
        course = self._course
        try:
            while (listed := course.next()) is not None:
                self._object(listed)
        except TritonForgeError as error:
            course.end(str(error))
        except BaseException as error:  # a defect of ours, told by the thread that waits
            course.end(repr(error), broken=error)

    def _object(self, listed: Listed) -> None:
        course = self._course
        try:
            found = listed.found or course.source.find(listed.uri)
        except PlaceError as error:
            course.failed(listed.uri, str(error), None)
            return
        if found is None:
            course.failed(listed.uri, "there is no such object", None)
            return
        underway = self._begun(found, listed.key)
        if underway is None:
            return
        self._read(underway)
        if underway.read_up():
            course.finished.put(underway)

    def _begun(self, found: Found, key: str) -> Underway | None:
        """The object, from its start or from where an earlier run was; None where there is nothing to do."""
        course, journal = self._course, self._course.journal
        with course.lock:  # of two objects with one key only one is begun
            entry = journal.entry(key)
            this_run = entry is not None and entry.run == journal.run
            same = entry is not None and entry.uri == found.uri and entry.etag == found.etag
            if entry is None or not (this_run or entry.is_done):
                clash = None
            elif entry.uri != found.uri:
                clash = entry.uri
            elif same and (this_run or entry.is_done):
                # Finished by an earlier run, or named twice by a manifest.
                course.counts.skipped += not this_run
                return None
            else:
                clash = None
            if clash is None:
                underway = Underway(
                    found, key, journal, form=course.plan.form, leave=course.window.leave, end=course.end
                )
                if entry is not None and same and underway.resume(entry.records, entry.offset, entry.length):
                    journal.resume(key)
                else:
                    journal.begin(key, found.uri, found.etag)
                return underway
        course.failed(found.uri, f"its output would have the name of that of {clash}", None)
        return None

    def _read(self, underway: Underway) -> None:
        """Make all requests of an object; where that fails, the object does."""
        plan, found = self._course.plan, underway.found
        limits, whole = plan.effective, plan.split_type == "None"
        if limits.chunked and plan.processing is None and (whole or limits.strategy == "MultiRecord"):
            self._submit(underway, b"", record=None, count=1, end=found.size, span=found.size, streamed=True)
            return
        if whole and not plan.compressed and found.size > limits.max_payload:
            reason = f"the object has {found.size} bytes, more than the {limits.max_payload} bytes of MaxPayloadInMB"
            underway.fail(f"{reason}; raise it (at most 100 MB), or set SplitType", None)
            return
        place = _Place(underway.offset, underway.records)
        with closing(self._content(found, underway.offset)) as chunks:
            records = split(
                chunks, plan.split_type, max_record=limits.max_payload, offset=underway.offset, number=underway.records
            )
            try:
                for batch in batches(place.passed(records), limits.strategy, limits.max_payload):
                    end = batch.offset + len(batch.body) if limits.strategy == "MultiRecord" else place.end
                    if underway.failure is not None:
                        return
                    record, span = None if whole else batch.number, end - batch.offset
                    if not self._submit(underway, batch.body, record=record, count=batch.count, end=end, span=span):
                        return
            except RecordError as error:
                underway.fail(str(error), None if whole else place.record_at(error.offset))
            except PlaceError as error:
                underway.fail(str(error), None if whole else place.record_at(place.end))

    def _content(self, found: Found, offset: int = 0) -> Generator[Buffer, None, None]:
        """The object's content from a byte on, decompressed."""
        source, compressed = self._course.source, self._course.plan.compressed
        with _closed(source.open(found.uri, 0 if compressed else offset)) as chunks:
            if not compressed:
                yield from chunks
                return
            for chunk in gunzip(chunks):
                if offset < len(chunk):
                    yield memoryview(chunk)[offset:]
                offset = max(0, offset - len(chunk))

    def _submit(
        self,
        underway: Underway,
        body: Buffer,
        *,
        record: int | None,
        count: int,
        end: int,
        span: int,
        streamed: bool = False,
    ) -> bool:
        """Send a request on its way; False where the run ends, and the object stays as it is for the next one."""
        course = self._course
        if not course.window.enter(len(body)):
            underway.interrupt()
            return False
        stream: Callable[[], Iterator[Buffer]] | None = None
        if streamed:
            stream = partial(self._content, underway.found)
        elif course.plan.effective.chunked:
            stream = partial(iter, (body,))
        course.tasks.put(
            Task(
                underway=underway,
                number=underway.asked(),
                record=record,
                count=count,
                end=end,
                size=len(body),
                span=span,
                body=body,
                stream=stream,
            )
        )
        return True


@contextmanager
def _closed(chunks: Iterator[Buffer]) -> Iterator[Iterator[Buffer]]:
    """Close what has something to close, read up or not."""
    try:
        yield chunks
    finally:
        if isinstance(chunks, Generator):
            chunks.close()


class _Place:
    """Where in an object the splitter is."""

    def __init__(self, offset: int, number: int) -> None:
        self.end = offset
        self._start: int | None = None
        self._next = number

    def passed(self, records: Iterable[Record]) -> Iterator[Record]:
        """The records, noted as they pass."""
        for record in records:
            self._start, self._next = record.offset, record.number + 1
            self.end = record.offset + len(record.framed)
            yield record

    def record_at(self, offset: int) -> int:
        """The number of the record that starts at this byte: the last one that passed, or the next."""
        return self._next - 1 if offset == self._start else self._next
