"""How a worker gathers the records of one request."""

import queue
from types import SimpleNamespace
from typing import Any

import pytest

from tritonforge.transform.request_coalescer import RequestCoalescer
from tritonforge.transform.workers import InvokeWorker


class ScriptedQueue:
    """Gives its entries one after another; "nothing" is a wait that ends without a task."""

    def __init__(self, *entries: Any) -> None:
        self.entries = list(entries)
        self.waits: list[float] = []

    def get(self, timeout: float | None = None) -> Any:
        """The next entry."""
        entry = self.entries.pop(0)
        if timeout is not None:
            self.waits.append(timeout)
        if entry == "nothing":
            raise queue.Empty
        return entry

    def put(self, entry: Any) -> None:
        """Return an entry to the front."""
        self.entries.insert(0, entry)


def gather(*entries: Any, durations: tuple[float, ...] = ()) -> tuple[list[int], list[float]]:
    """The sizes of the requests that a worker sends, and how long it was ready to wait for each further record."""
    now, lasts = [0.0], iter(durations)
    sizes: list[int] = []
    tasks = ScriptedQueue(*entries)
    state: Any = SimpleNamespace(tasks=tasks, end_on_internal_error=pytest.fail)
    coalescer = RequestCoalescer(name="x", datatype="BYTES", max_batch=3)
    invoker: Any = SimpleNamespace(coalescer=coalescer)
    worker = InvokeWorker(state, invoker, clock=lambda: now[0])

    def process(given: list[Any]) -> None:
        sizes.append(len(given))
        now[0] += next(lasts, 0.0)

    worker._process = process  # type: ignore[method-assign]  # what is sent is not the subject here
    worker.work()
    return sizes, tasks.waits


def task(body: bytes = b"record") -> Any:
    return SimpleNamespace(body=body, stream=None)


def test_a_request_is_full_before_it_is_sent_where_records_come_soon() -> None:
    sizes, waits = gather(task(), task(), task(), task(), "nothing", None)
    assert sizes == [3, 1]
    assert len(waits) == 3  # none for a fourth record of the first request


def test_a_worker_waits_for_a_small_part_of_the_time_of_its_last_request() -> None:
    sizes, waits = gather(task(), "nothing", task(), "nothing", task(), "nothing", None, durations=(2.0, 0.01))
    assert sizes == [1, 1, 1]
    assert waits == pytest.approx([0.05, 0.1, 0.0005])


def test_the_end_of_the_records_ends_the_wait() -> None:
    sizes, waits = gather(task(), None)
    assert sizes == [1]
    assert len(waits) == 1
