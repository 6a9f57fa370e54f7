"""The driver of a job on a cluster: it lists objects, gives them to workers, and records what they finish.

The journal on this machine is the authority. A row is written after a worker has reported the output, which is then
complete; so a lost node loses only objects that are not finished, and those go to other workers.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from tritonforge.transform.cluster.dispatch import Dispatcher
from tritonforge.transform.cluster.messages import WorkerLost, WorkerReport
from tritonforge.transform.cluster.object_feed import ObjectFeed
from tritonforge.transform.cluster.placement import Node, Placement, WorkerDemand, plan_placements
from tritonforge.transform.journal import FinishedObject, Journal
from tritonforge.transform.listing import Listing, TotalCounter
from tritonforge.transform.object_store import ObjectStore
from tritonforge.transform.run_state import Counts, InputObject, NodeProgress, Outcome, Progress, build_outcome

__all__ = ["WorkerCluster", "run_on_cluster"]

#: Seconds to wait for reports, between two looks at the nodes, and between two calls of ``on_progress``.
_PERIOD: Final = 0.1
_NODES_PERIOD: Final = 1.0

#: Seconds to wait for a node that can take a worker while no worker runs: a node that restarts comes back meanwhile.
_PATIENCE: Final = 30.0

#: Seconds that workers get to stop their servers at the end, before they are killed.
_GRACE: Final = 60.0

#: How often a node's workers may be lost without finishing an object in between.
_MAX_LOSSES: Final = 5


class WorkerCluster(Protocol):
    """What the driver needs of a cluster. Workers are names; one that is gone takes messages silently."""

    def list_nodes(self) -> Sequence[Node]:
        """Return the nodes that are alive."""
        ...

    def start(self, worker: str, placement: Placement) -> None:
        """Start a worker. It reports when it is ready, when it ends, or is lost."""
        ...

    def put(self, worker: str, objects: Sequence[InputObject]) -> None:
        """Send objects to a worker."""
        ...

    def send_repository(self, worker: str) -> None:
        """Send the model repository to a worker whose node does not see it."""
        ...

    def close(self, worker: str) -> None:
        """Have a worker end when its objects are finished."""
        ...

    def stop(self, worker: str) -> None:
        """Have a worker end when its requests in flight are finished."""
        ...

    def kill(self, worker: str) -> None:
        """End a worker at once."""
        ...

    def poll(self, timeout: float) -> Sequence[tuple[str, WorkerReport | WorkerLost]]:
        """Wait for news up to ``timeout`` seconds and return them, in the order of each worker."""
        ...


class _Worker:
    """A worker that runs: where, since when it is ready, and what it has answered."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self.has_started = False
        self.is_ready = False
        self.records = self.size = 0


class _NodeCounts:
    """What the workers of one node have done; what they have answered includes objects that are not finished."""

    def __init__(self, started: float) -> None:
        self.started = self.last_finished = started
        self.objects = self.records = self.size = 0
        self.answered_records = self.answered_size = 0


def run_on_cluster(
    listing: Listing,
    *,
    cluster: WorkerCluster,
    demand: WorkerDemand,
    source: ObjectStore,
    work: Path | None,
    description: dict[str, Any],
    locate: Callable[[InputObject], InputObject] = lambda listed: listed,
    total: Listing | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_note: Callable[[str], None] = lambda note: None,
    stop: threading.Event | None = None,
) -> Outcome:
    """Run a job on a cluster, or what an earlier run left of it, and return its outcome as `engine.run` does.

    Args:
        listing: the objects of the job.
        cluster: starts workers and carries messages.
        demand: how many workers are started and what they reserve.
        source: the store of the input.
        work: the directory of the journal, None for a temporary one.
        description: everything that the outputs depend on (`engine.describe_job`).
        locate: returns an object with the address that it has on all nodes.
        total: a second listing, to count all objects for ``on_progress``; None to leave them uncounted.
        on_progress: called ten times a second.
        on_note: called with sentences about workers, which begin with the node's name.
        stop: ends the job once it is set; workers finish the requests in flight.

    Raises:
        DefinitionError: ``work`` belongs to another job.
        JournalError: ``work`` cannot be used.
    """
    with Journal(work, description) as journal:
        ended = threading.Event()
        try:
            counter = None if total is None else TotalCounter(total, ended)
            feed = ObjectFeed(listing, journal, source)
            driver = _Driver(cluster, demand, journal, feed, on_note, locate)
            return driver.run(stop or threading.Event(), lambda: on_progress(driver.describe_progress(counter)))
        finally:
            ended.set()


class _Driver:
    """The state of one run."""

    def __init__(
        self,
        cluster: WorkerCluster,
        demand: WorkerDemand,
        journal: Journal,
        feed: ObjectFeed,
        on_note: Callable[[str], None],
        locate: Callable[[InputObject], InputObject],
    ) -> None:
        self._cluster = cluster
        self._demand = demand
        self._journal = journal
        self._feed = feed
        self._on_note = on_note
        self._locate = locate
        self._dispatcher = Dispatcher()
        self._workers: dict[str, _Worker] = {}
        self._started_workers = 0
        self._nodes: Sequence[Node] = ()
        self._nodes_seen = float("-inf")
        self._barred: set[str] = set()
        self._losses: Counter[str] = Counter()
        self._lonely_since: float | None = None
        self._error = ""
        self._fatal = ""
        self._is_ending = False
        self._counts = Counts()
        self._by_node: dict[str, _NodeCounts] = {}
        self._summary: dict[str, None] = {}
        self._before = journal.count_finished()
        #: When the first worker was ready, and when the last object was finished: starts and stops of servers do not
        #: count, as on one machine.
        self._ready: float | None = None
        self._last_finished = 0.0

    def run(self, stop: threading.Event, report_progress: Callable[[], None]) -> Outcome:
        """Run until every object is accounted for, the job is stopped, or it cannot continue."""
        try:
            while not (self._fatal or stop.is_set() or self._is_complete()):
                self._start_workers()
                self._send_objects()
                self._handle_news()
                report_progress()
            self._end_workers(stop_early=not self._is_complete(), report_progress=report_progress)
        finally:
            self._feed.close()
            for worker in self._workers:  # after a second signal or an error
                self._cluster.kill(worker)
        self._fatal = self._fatal or self._feed.error
        return build_outcome(
            self._counts,
            records_before=self._before[1],
            seconds=0.0 if self._ready is None else max(0.0, self._last_finished - self._ready),
            fatal=self._fatal,
            is_stopped=not self._is_complete(),
            is_empty=self._feed.is_empty,
            notes=self._summary,
            nodes=self._list_nodes(is_running=False),
        )

    def describe_progress(self, total: TotalCounter | None) -> Progress:
        """Return the progress over all nodes."""
        return Progress(
            objects=self._counts.objects,
            failed=self._counts.failed,
            records=sum(node.answered_records for node in self._by_node.values()),
            size=sum(node.answered_size for node in self._by_node.values()),
            seconds=0.0 if self._ready is None else time.monotonic() - self._ready,
            objects_before=self._before[0],
            records_before=self._before[1],
            size_before=self._before[2],
            total_objects=None if total is None else total.objects,
            total_size=None if total is None else total.size,
            nodes=tuple(self._list_nodes(is_running=True)),
        )

    def _is_complete(self) -> bool:
        return bool(self._feed.error) or (self._feed.is_exhausted and self._dispatcher.is_idle)

    def _list_nodes(self, *, is_running: bool) -> Iterator[NodeProgress]:
        now = time.monotonic()
        for name, node in sorted(self._by_node.items()):
            yield NodeProgress(
                name=name,
                objects=node.objects,
                records=node.answered_records if is_running else node.records,
                size=node.answered_size if is_running else node.size,
                seconds=(now if is_running else node.last_finished) - node.started,
            )

    def _start_workers(self) -> None:
        """Start workers where CPUs are free; end the job if none runs and none can be started."""
        now = time.monotonic()
        if now - self._nodes_seen < _NODES_PERIOD:
            return
        self._nodes_seen = now
        self._nodes = self._cluster.list_nodes()
        running = [worker.placement for worker in self._workers.values()]
        for placement in plan_placements(self._demand, self._nodes, running, self._barred):
            self._started_workers += 1
            name = f"worker-{self._started_workers}"
            self._workers[name] = _Worker(placement)
            self._cluster.start(name, placement)
        if self._workers:
            self._lonely_since = None
            return
        self._lonely_since = self._lonely_since or now
        is_hopeless = bool(self._nodes) and all(node.id in self._barred for node in self._nodes)
        if is_hopeless or now - self._lonely_since > _PATIENCE:
            reason = (
                self._error or "no node has the CPUs and GPUs that a worker reserves (--worker-cpus, --worker-gpus)"
            )
            self._fatal = f"no worker can be started: {reason}"

    def _send_objects(self) -> None:
        now = time.monotonic()
        for worker, free in self._dispatcher.list_free_windows(now):
            objects = self._dispatcher.take_returned(worker, free)
            if not objects:
                admitted, failed = self._feed.take(free, self._dispatcher.find)
                for finished in failed:
                    self._counts.count(finished)
                self._dispatcher.assign(worker, admitted)
                objects = admitted
            if objects:
                self._cluster.put(worker, [self._locate(given) for given in objects])
        self._counts.skipped = self._feed.skipped

    def _handle_news(self) -> None:
        for worker, news in self._cluster.poll(_PERIOD):
            if worker not in self._workers:
                continue
            if isinstance(news, WorkerLost):
                self._remove_worker(worker, news.reason, is_lost=True)
            else:
                self._handle_report(worker, news)

    def _handle_report(self, name: str, report: WorkerReport) -> None:
        worker = self._workers[name]
        node = worker.placement.node
        worker.has_started = True
        if report.capacity and not worker.is_ready:
            worker.is_ready = True
            self._ready = self._ready or time.monotonic()
            self._by_node.setdefault(node.name, _NodeCounts(time.monotonic()))
            self._dispatcher.add_worker(name, report.capacity)
        if report.needs_repository:
            self._cluster.send_repository(name)
        for note in report.notes:
            self._on_note(f"{node.name}: {note}")
        self._summary |= dict.fromkeys(f"{node.name}: {sentence}" for sentence in report.summary)
        if worker.is_ready:
            self._record(name, worker, report)
        if report.has_ended:
            self._remove_worker(name, report.reason, is_lost=bool(report.reason))

    def _record(self, name: str, worker: _Worker, report: WorkerReport) -> None:
        """Record what a worker has finished, first in the journal, then in the counts."""
        keys = [finished.key for finished in report.finished]
        known = self._dispatcher.complete(name, keys, time.monotonic())
        finished = [replace(item, uri=known[item.key].uri) for item in report.finished if item.key in known]
        node = self._by_node[worker.placement.node.name]
        if finished:
            self._journal.record_finished(finished)
            self._losses.pop(worker.placement.node.id, None)
            self._last_finished = node.last_finished = time.monotonic()
        for item in finished:
            self._counts.count(item)
            self._counts.records += item.records
            node.records += item.records
            if item.reason is None:
                node.objects += 1
                node.size += item.size
                self._counts.size += item.size
        if report.records or report.size:  # counted since the worker's start
            node.answered_records += report.records - worker.records
            node.answered_size += report.size - worker.size
            worker.records, worker.size = report.records, report.size

    def _remove_worker(self, name: str, reason: str, *, is_lost: bool) -> None:
        worker = self._workers.pop(name)
        node = worker.placement.node
        failed = self._dispatcher.remove_worker(name, is_lost=is_lost)
        if not is_lost:
            return
        self._cluster.kill(name)  # one that only seems to be lost must not write outputs
        self._nodes_seen = float("-inf")  # look for a replacement now
        self._error = self._error or f"{node.name}: {reason}"
        self._losses[node.id] += 1
        if not worker.is_ready or self._losses[node.id] >= _MAX_LOSSES:
            self._barred.add(node.id)
        if not self._is_ending:
            others = "; its unfinished objects go to other workers" if worker.is_ready else "; it runs no worker"
            self._on_note(f"{node.name}: {reason}{others}")
        sentence = f"it was alone with its worker when that ended, after two others that had it: {node.name}: {reason}"
        finished = [
            FinishedObject(
                key=lost.key, uri=lost.uri, etag="" if lost.stored is None else lost.stored.etag, reason=sentence
            )
            for lost in failed
        ]
        if finished:
            self._journal.record_finished(finished)
        for item in finished:
            self._counts.count(item)

    def _end_workers(self, *, stop_early: bool, report_progress: Callable[[], None]) -> None:
        """End all workers and record what they still finish; one that waits for its CPUs is killed."""
        self._is_ending = True
        for name, worker in [*self._workers.items()]:
            if not worker.has_started:
                self._cluster.kill(name)
                del self._workers[name]
            elif stop_early or not worker.is_ready:
                self._cluster.stop(name)
            else:
                self._cluster.close(name)
        deadline = time.monotonic() + _GRACE
        while self._workers and (stop_early or time.monotonic() < deadline):
            self._handle_news()
            report_progress()
