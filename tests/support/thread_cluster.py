"""A cluster whose workers are threads of this process, with nodes that can be lost at any moment."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.folder_transforms import Folder
from tritonforge.transform import LocalStore, Outcome
from tritonforge.transform.cluster.driver import run_on_cluster
from tritonforge.transform.cluster.messages import WorkerLost, WorkerReport, WorkerSettings
from tritonforge.transform.cluster.placement import Node, Placement, WorkerDemand
from tritonforge.transform.cluster.worker import TransformWorker
from tritonforge.transform.engine import describe_job
from tritonforge.transform.job import resolve_settings
from tritonforge.transform.listing import Listing
from tritonforge.transform.local_server import identify_repository
from tritonforge.transform.run_state import InputObject


class ThreadCluster:
    """A `WorkerCluster` of the given nodes, whose workers call ``model``.

    ``on_report`` is called with every report that the driver gets. Nodes in ``broken`` fail to start workers.
    """

    def __init__(
        self,
        settings: WorkerSettings,
        model: Any,
        nodes: Sequence[str] = ("a",),
        *,
        broken: Sequence[str] = (),
        on_report: Callable[[str, WorkerReport], None] = lambda node, report: None,
    ) -> None:
        self.nodes = {name: Node(name, name, 4.0, 0.0) for name in nodes}
        self.sent: dict[str, list[str]] = {}
        self.placed: dict[str, str] = {}
        self._settings = settings
        self._model = model
        self._broken = broken
        self._on_report = on_report
        self._workers: dict[str, TransformWorker] = {}
        self._news: queue.SimpleQueue[tuple[str, WorkerReport | WorkerLost]] = queue.SimpleQueue()

    def lose(self, node: str) -> None:
        """Lose a node with its workers."""
        self.nodes.pop(node, None)
        for worker in [name for name, place in self.placed.items() if place == node and name in self._workers]:
            self.lose_worker(worker)

    def lose_worker(self, worker: str) -> None:
        """Lose a worker: what it had not reported is never reported."""
        running = self._workers.pop(worker, None)
        if running is not None:
            running.stop()
            self._news.put((worker, WorkerLost("the worker's process ended")))

    def list_nodes(self) -> Sequence[Node]:
        """Return the nodes that are not lost."""
        return [*self.nodes.values()]

    def start(self, worker: str, placement: Placement) -> None:
        """Start a thread."""
        node = self.placed[worker] = placement.node.name

        @contextmanager
        def open_client(*_: object) -> Iterator[Any]:
            yield self._model, None

        self._workers[worker] = running = TransformWorker(self._settings, worker, open_client=open_client)
        if node in self._broken:
            running.provide_repository(Path())
            self._news.put((worker, WorkerReport(has_ended=True, reason="its disk is full")))
            return
        threading.Thread(target=self._pass_reports, args=(worker, running), daemon=True).start()

    def _pass_reports(self, worker: str, running: TransformWorker) -> None:
        for report in running.reports():
            if worker in self._workers:
                self._news.put((worker, report))

    def put(self, worker: str, objects: Sequence[InputObject]) -> None:
        """Send objects."""
        self.sent.setdefault(worker, []).extend(given.key for given in objects)
        if worker in self._workers:
            self._workers[worker].put(objects)

    def send_repository(self, worker: str) -> None:
        """Every thread sees the repository."""
        raise AssertionError(worker)

    def close(self, worker: str) -> None:
        """End a worker when it is done."""
        if worker in self._workers:
            self._workers[worker].close()

    def stop(self, worker: str) -> None:
        """End a worker early."""
        if worker in self._workers:
            self._workers[worker].stop()

    def kill(self, worker: str) -> None:
        """End a worker."""
        running = self._workers.pop(worker, None)
        if running is not None:
            running.stop()

    def poll(self, timeout: float) -> Sequence[tuple[str, WorkerReport | WorkerLost]]:
        """Return what has come."""
        news = []
        try:
            news.append(self._news.get(timeout=timeout))
            while True:
                news.append(self._news.get_nowait())
        except queue.Empty:
            pass
        for worker, report in news:
            if isinstance(report, WorkerReport):
                self._on_report(self.placed[worker], report)
        return news


def run_in_threads(
    folder: Folder,
    model: Any,
    nodes: Sequence[str] = ("a",),
    *,
    broken: Sequence[str] = (),
    on_report: Callable[[ThreadCluster, str, WorkerReport], None] = lambda cluster, node, report: None,
    stop: threading.Event | None = None,
    **fields: Any,
) -> tuple[Outcome, list[str], ThreadCluster]:
    """Run a job over a folder on a `ThreadCluster`; return its outcome, the notes and the cluster."""
    job = folder.job(**fields)
    repository = folder.path / "repository"
    repository.mkdir(exist_ok=True)
    settings = WorkerSettings(
        job=job,
        repository=str(repository),
        identity=identify_repository(repository),
        model=None,
        output_format="container",
        gathering="auto",
        open_source=LocalStore,
        open_sink=lambda worker: LocalStore(folder.work / "partial" / worker),
    )
    notes: list[str] = []
    cluster = ThreadCluster(
        settings, model, nodes, broken=broken, on_report=lambda node, report: on_report(cluster, node, report)
    )
    outcome = run_on_cluster(
        Listing(job, LocalStore()),
        cluster=cluster,
        demand=WorkerDemand(),
        source=LocalStore(),
        work=folder.work,
        description=describe_job(job, resolve_settings(job), "container"),
        on_note=notes.append,
        stop=stop,
    )
    return outcome, notes, cluster
