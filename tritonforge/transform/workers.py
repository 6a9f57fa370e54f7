"""The threads of a run: readers make requests of objects, invoke workers send them, output writers write the outputs.

objects -> `ObjectReader` -> tasks -> `InvokeWorker` -> completed objects -> `OutputWriter` -> outputs.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import TritonForgeError
from tritonforge.files import describe_error
from tritonforge.records import Buffer, Record, RecordError, assemble, build_batches, gunzip, split
from tritonforge.transform.journal import FinishedObject
from tritonforge.transform.model_client import Reply, RetryingInvoker, RunStoppedError, ServerUnavailableError
from tritonforge.transform.object_progress import ObjectInProgress, RequestOutput
from tritonforge.transform.object_store import StoredObject, StoreError
from tritonforge.transform.output_formats import build_rows, finish_npy, finish_parquet, format_json_line
from tritonforge.transform.run_state import InputObject, RunState, Task

__all__ = ["InvokeWorker", "ObjectReader", "OutputWriter"]


class ObjectReader:
    """Makes requests of objects, as fast as the `InFlightLimiter` admits them."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    def work(self) -> None:
        """Read objects until the listing or the run ends."""
        state = self._state
        try:
            while (listed := state.next_object()) is not None:
                self._process(listed)
        except TritonForgeError as error:
            state.end(str(error))
        except BaseException as error:
            state.end_on_internal_error(error)

    def _process(self, listed: InputObject) -> None:
        state = self._state
        try:
            stored = listed.stored or state.source.find(listed.uri)
        except StoreError as error:
            state.finish(FinishedObject(key=listed.key, uri=listed.uri, etag="", reason=str(error)))
            return
        if stored is None:
            state.finish(FinishedObject(key=listed.key, uri=listed.uri, etag="", reason="no such object"))
            return
        progress = self._begin(stored, listed.key)
        if progress is None:
            return
        self._read(progress)
        if progress.end_requests():
            state.completed.put(progress)

    def _begin(self, stored: StoredObject, key: str) -> ObjectInProgress | None:
        """Return the object, from its start or from where an earlier run ended; None if it is not to be read."""
        state, journal = self._state, self._state.journal
        with state.lock:  # of two objects with the same key only one begins
            admission = journal.admit(key, stored.uri, stored.etag)
            entry = admission.entry
            if admission.kind in ("finished", "repeated"):
                state.counts.skipped += admission.kind == "finished"
                return None
            if admission.kind != "conflict":
                progress = ObjectInProgress(
                    stored,
                    key,
                    journal,
                    output_format=state.plan.output_format,
                    on_release=state.limiter.release,
                    on_fatal=state.end,
                )
                is_resumed = admission.kind == "resume" and entry is not None
                if is_resumed and entry and progress.resume(entry.records, entry.offset, entry.length):
                    journal.resume(key)
                else:
                    journal.begin(key, stored.uri, stored.etag)
                return progress
        state.finish(FinishedObject(key=key, uri=stored.uri, etag=stored.etag, reason=admission.conflict))
        return None

    def _read(self, progress: ObjectInProgress) -> None:
        """Make all requests of an object; an error fails the object."""
        plan, stored = self._state.plan, progress.stored
        settings, whole = plan.settings, plan.split_type == "None"
        if settings.chunked and plan.processing is None and (whole or settings.strategy == "MultiRecord"):
            self._submit(progress, b"", record=None, count=1, end=stored.size, span=stored.size, streamed=True)
            return
        if whole and not plan.compressed and stored.size > settings.max_payload:
            reason = f"the object has {stored.size} bytes, more than the {settings.max_payload} bytes of MaxPayloadInMB"
            progress.fail(f"{reason}; raise it (at most 100 MB), or set SplitType", None)
            return
        position = _Position(progress.offset, progress.records)
        with closing(self._read_content(stored, progress.offset)) as chunks:
            records = split(
                chunks,
                plan.split_type,
                max_record=settings.max_payload,
                offset=progress.offset,
                number=progress.records,
            )
            try:
                for batch in build_batches(position.follow(records), settings.strategy, settings.max_payload):
                    end = batch.offset + len(batch.body) if settings.strategy == "MultiRecord" else position.end
                    if progress.failure is not None:
                        return
                    record, span = None if whole else batch.number, end - batch.offset
                    if not self._submit(progress, batch.body, record=record, count=batch.count, end=end, span=span):
                        return
            except RecordError as error:
                progress.fail(str(error), None if whole else position.record_at(error.offset))
            except StoreError as error:
                progress.fail(str(error), None if whole else position.record_at(position.end))

    def _read_content(self, stored: StoredObject, offset: int = 0) -> Generator[Buffer, None, None]:
        """Yield the object's content from a byte on, decompressed."""
        source, compressed = self._state.source, self._state.plan.compressed
        with _close_generator(source.open(stored.uri, 0 if compressed else offset)) as chunks:
            if not compressed:
                yield from chunks
                return
            for chunk in gunzip(chunks):
                if offset < len(chunk):
                    yield memoryview(chunk)[offset:]
                offset = max(0, offset - len(chunk))

    def _submit(
        self,
        progress: ObjectInProgress,
        body: Buffer,
        *,
        record: int | None,
        count: int,
        end: int,
        span: int,
        streamed: bool = False,
    ) -> bool:
        """Queue a request. Return False if the run ends; the object is then left for the next run."""
        state = self._state
        if not state.limiter.acquire(len(body)):
            progress.interrupt()
            return False
        stream: Callable[[], Iterator[Buffer]] | None = None
        if streamed:
            stream = partial(self._read_content, progress.stored)
        elif state.plan.settings.chunked:
            stream = partial(iter, (body,))
        state.tasks.put(
            Task(
                progress=progress,
                number=progress.add_request(),
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
def _close_generator(chunks: Iterator[Buffer]) -> Iterator[Iterator[Buffer]]:
    """Close an iterator that is a generator, exhausted or not."""
    try:
        yield chunks
    finally:
        if isinstance(chunks, Generator):
            chunks.close()


class _Position:
    """The position of the splitter in an object."""

    def __init__(self, offset: int, number: int) -> None:
        self.end = offset
        self._start: int | None = None
        self._next = number

    def follow(self, records: Iterable[Record]) -> Iterator[Record]:
        """Yield the records and note where each of them ends."""
        for record in records:
            self._start, self._next = record.offset, record.number + 1
            self.end = record.offset + len(record.framed)
            yield record

    def record_at(self, offset: int) -> int:
        """Return the number of the record that starts at this byte: the last one that was read, or the next."""
        return self._next - 1 if offset == self._start else self._next


#: Seconds that a worker waits for records that fill its first request, and the part of a request's duration that it
#: waits before a later one. Batches of a few records cost a model nearly as much as full ones, and a job begins when
#: the readers have one record.
_FIRST_WAIT: Final = 0.05
_WAIT_FRACTION: Final = 0.05


class InvokeWorker:
    """Sends requests, several records as one if the model allows it, and turns responses into outputs."""

    def __init__(
        self, state: RunState, invoker: RetryingInvoker, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._state = state
        self._invoker = invoker
        self._clock = clock
        self._wait = _FIRST_WAIT

    def work(self) -> None:
        """Process tasks until the queue holds None."""
        following: Task | None = None  # taken from the queue, but does not fit to those before it
        while True:
            task, following = following or self._state.tasks.get(), None
            if task is None:
                return
            tasks = [task]
            if self._can_add(task, []):
                following = self._collect(tasks)
            began = self._clock()
            try:
                self._process(tasks)
            except BaseException as error:
                self._state.end_on_internal_error(error)
            self._wait = _WAIT_FRACTION * (self._clock() - began)

    def _collect(self, tasks: list[Task]) -> Task | None:
        """Add tasks as long as they fit in one request and come soon. Return the one that does not fit."""
        deadline = self._clock() + self._wait
        while not self._is_full(tasks):
            try:
                task = self._state.tasks.get(timeout=max(0.0, deadline - self._clock()))
            except queue.Empty:
                return None
            if task is None:
                self._state.tasks.put(None)  # one for each thread
                return None
            if not self._can_add(task, tasks):
                return task
            tasks.append(task)
        return None

    def _is_full(self, tasks: list[Task]) -> bool:
        coalescer = self._invoker.coalescer
        return coalescer is None or len(tasks) >= coalescer.max_batch

    def _can_add(self, task: Task, tasks: list[Task]) -> bool:
        coalescer = self._invoker.coalescer
        return (
            coalescer is not None
            and task.stream is None
            and coalescer.can_add(task.body, [other.body for other in tasks])
        )

    def _process(self, tasks: list[Task]) -> None:
        replies: list[Reply] | None = None
        live = [task for task in tasks if task.progress.failure is None]
        if len(live) > 1 and not self._state.ended.is_set():
            try:
                replies = self._invoker.invoke_together([task.body for task in live])
            except ServerUnavailableError as error:
                self._state.end(str(error))
        by_task = dict(zip(map(id, live), replies or (), strict=False))
        for task in tasks:
            self._settle(task, by_task.get(id(task)))

    def _settle(self, task: Task, reply: Reply | None) -> None:
        progress = task.progress
        output = None
        try:
            if progress.failure is None:
                output = self._build_output(task, reply)
        except RunStoppedError:
            progress.interrupt()
        except ServerUnavailableError as error:
            progress.interrupt()
            self._state.end(str(error))
        except TritonForgeError as error:
            progress.fail(str(error), task.record)
        except BaseException:
            progress.interrupt()
            raise
        finally:
            if output is not None:
                # The offset in decompressed content is not a number of bytes of the input.
                self._state.count_records(task.count, 0 if self._state.plan.compressed else task.span)
            if progress.settle(task.number, output, task.size):
                self._state.completed.put(progress)

    def _build_output(self, task: Task, reply: Reply | None) -> RequestOutput:
        """Return what is written for a request; ``reply`` is its response if it has been sent with others."""
        plan = self._state.plan
        if reply is None:
            if self._state.ended.is_set():
                raise RunStoppedError("the run ends")
            if plan.processing is not None:
                body = plan.processing.filter_request(task.body)
                reply = self._invoker.invoke((lambda: iter((body,))) if plan.settings.chunked else (lambda: body))
            else:
                reply = self._invoker.invoke(task.stream or (lambda: task.body))
        dtype: Any = None
        if plan.output_format == "jsonl":
            pieces: tuple[bytes, ...] = (format_json_line(reply.body, reply.headers), b"\n")
        elif plan.output_format == "container":
            content = reply.body if plan.processing is None else plan.processing.join_response(task.body, reply.body)
            pieces = tuple(map(bytes, assemble([content], plan.assemble_with)))
        else:
            table = build_rows(reply.body, reply.headers)
            pieces, dtype = (table.tobytes(),), table.dtype
        return RequestOutput(pieces, task.count, task.end, task.size, dtype)


class OutputWriter:
    """Writes the outputs of complete objects, counts failed ones, and leaves interrupted ones for the next run."""

    def __init__(self, state: RunState) -> None:
        self._state = state

    def work(self) -> None:
        """Process objects until the queue holds None."""
        while (progress := self._state.completed.get()) is not None:
            self._finish(progress)

    def _finish(self, progress: ObjectInProgress) -> None:
        state = self._state
        try:
            self._write(progress)
        except TritonForgeError as error:  # work directory, journal, or a sink that accepts no output at all
            state.end(str(error))
        except OSError as error:
            state.end(f"{state.journal.directory}: cannot write: {describe_error(error)}")
        except BaseException as error:
            state.end_on_internal_error(error)

    def _write(self, progress: ObjectInProgress) -> None:
        state = self._state
        is_large = False
        if progress.failure is None and not progress.interrupted:
            try:
                content = progress.finish()
                is_large = isinstance(content, Path)
                state.sink.put(self._format(content), state.build_target(progress.key))
            except StoreError as error:
                if error.permanent:
                    raise
                progress.fail(str(error), None)
        if progress.failure is not None:
            reason, record = progress.failure
            state.journal.record_failure(progress.key, reason, record)
            progress.discard()
            state.finish(progress.describe(reason, record))
        elif progress.interrupted:
            state.unfinished = True
            progress.suspend()
        else:
            # In this order: what the journal records is on the disk.
            state.journal.record_output(progress.key, progress.records, progress.stored.size, at_once=is_large)
            progress.discard()
            state.finish(progress.describe())

    def _format(self, content: bytes | Path) -> bytes | Path:
        output_format = self._state.plan.output_format
        if output_format == "npy":
            return finish_npy(content)
        return finish_parquet(content) if output_format == "parquet" else content
