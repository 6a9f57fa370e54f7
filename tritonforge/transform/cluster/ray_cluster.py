"""A Ray cluster for the driver: nodes, workers as actors, and their messages. The only importer of ray.

Workers report through streaming generators, whose values are in Ray's messages themselves: what the driver has received
is not lost with a node. A cluster of this command's own listens on a loopback address and admits holders of its random
token only.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import secrets
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import tritonforge
from tritonforge.errors import ConnectError, LaunchError, MissingExtraError, TritonForgeError
from tritonforge.transform.cluster.messages import WorkerLost, WorkerReport, WorkerSettings
from tritonforge.transform.cluster.placement import Node, Placement, name_nodes
from tritonforge.transform.cluster.repository_archive import unpack_repository, write_archive
from tritonforge.transform.cluster.worker import TransformWorker
from tritonforge.transform.run_state import InputObject

__all__ = ["RayCluster"]

#: Bytes of the shared memory of a cluster of this command's own: its messages are small, and Ray requires 75 MiB.
_OBJECT_STORE: Final = 100 << 20

#: Without it Ray kills the child processes of a worker that ends, and so the supervisor of its tritonserver, which then
#: cannot end the processes of the models.
_WORKER_ENVIRONMENT: Final = {"RAY_kill_child_processes_on_worker_exit": "0"}

#: Calls of a worker that run at the same time: its reports, and messages to it.
_CONCURRENT_CALLS: Final = 4


class _WorkerActor:
    """The actor around a `TransformWorker`. ``settings`` are pickled, so that another version fails with a sentence."""

    def __init__(self, version: str, settings: bytes, name: str, cpus: float) -> None:
        self._problem = ""
        self._worker: TransformWorker | None = None
        if version != tritonforge.__version__:
            self._problem = (
                f"tritonforge {tritonforge.__version__} is installed there (expected {version}). Install the same "
                "version on all nodes"
            )
            return
        # The driver may run any code here, so that its pickle may too.
        self._worker = TransformWorker(pickle.loads(settings), name, cpus=cpus)  # noqa: S301

    def reports(self) -> Iterator[WorkerReport]:
        if self._worker is None:
            yield WorkerReport(has_ended=True, reason=self._problem)
            return
        yield from self._worker.reports()

    def put(self, objects: Sequence[InputObject]) -> None:
        if self._worker is not None:
            self._worker.put(objects)

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()

    def stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()

    def provide_repository(self, digest: str, chunks: Sequence[Any]) -> None:
        import ray

        if self._worker is None:
            return
        try:
            self._worker.provide_repository(unpack_repository(digest, (ray.get(chunk) for chunk in chunks)))
        except TritonForgeError as error:
            self._worker.provide_repository(error)


class RayCluster:
    """A `WorkerCluster` on Ray; a context manager.

    ``address`` is that of a running cluster, None for one of this command's own, which ends with it.

    Raises:
        MissingExtraError: ray is not installed.
        ConnectError: the cluster does not answer, or refuses this machine.
    """

    def __init__(self, settings: WorkerSettings, *, address: str | None = None) -> None:
        try:
            self._ray: Any = _import_ray(is_own=address is None)
        except ImportError as error:
            raise MissingExtraError("ray", extra="ray") from error
        self._settings = settings
        self._pickled = pickle.dumps(settings)
        self._address = address
        self._directory: Path | None = None
        self._actors: dict[str, Any] = {}
        self._streams: dict[Any, str] = {}
        self._archive: tuple[str, list[Any]] | None = None

    def __enter__(self) -> RayCluster:
        # Ray puts its own handler of SIGTERM over the command's.
        handler = signal.getsignal(signal.SIGTERM)
        try:
            self._connect()
        except Exception as error:  # Ray raises this class itself when a node does not start in time
            self._disconnect()
            where = "a local Ray cluster" if self._address is None else f"--address {self._address}"
            raise ConnectError(f"{where}: {' '.join(str(error).split())}") from error
        finally:
            signal.signal(signal.SIGTERM, handler)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in [*self._actors]:
            self.kill(worker)
        self._disconnect()

    def _disconnect(self) -> None:
        self._ray.shutdown(wait_for_processes=True)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _connect(self) -> None:
        from ray._private import worker as ray_worker

        # Ray prints errors of the cluster to standard output whatever its settings are; the report of the job is there,
        # and the loss of a node is a note of the driver.
        ray_worker.print_to_stdstream = lambda *_, **__: None
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if self._address is not None:
            self._ray.init(address=self._address, **quiet)
            return
        # Sockets have short paths (unix(7): 107 bytes), so that TMPDIR cannot be used.
        self._directory = Path(tempfile.mkdtemp(prefix="tritonforge-ray-", dir="/tmp"))
        self._ray.init(
            address="local",
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(self._directory),
            **quiet,
        )

    def list_nodes(self) -> Sequence[Node]:
        """Return the nodes that are alive."""
        return name_nodes(
            (
                node["NodeID"],
                node["NodeManagerHostname"],
                node["Resources"].get("CPU", 0.0),
                node["Resources"].get("GPU", 0.0),
            )
            for node in self._ray.nodes()
            if node["Alive"]
        )

    def start(self, worker: str, placement: Placement) -> None:
        """Start an actor on a node, and its stream of reports."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor_class = self._ray.remote(_WorkerActor).options(
            num_cpus=placement.cpus,
            num_gpus=placement.gpus,
            max_concurrency=_CONCURRENT_CALLS,
            max_restarts=0,
            runtime_env={"env_vars": _WORKER_ENVIRONMENT},
            scheduling_strategy=NodeAffinitySchedulingStrategy(placement.node.id, soft=False),
        )
        actor = actor_class.remote(tritonforge.__version__, self._pickled, worker, placement.cpus)
        self._actors[worker] = actor
        self._streams[actor.reports.options(num_returns="streaming").remote()] = worker

    def put(self, worker: str, objects: Sequence[InputObject]) -> None:
        """Send objects to a worker."""
        self._call(worker, "put", objects)

    def send_repository(self, worker: str) -> None:
        """Put the model repository into Ray's object store once, and send its chunks' references to a worker."""
        if self._archive is None:
            chunks: list[Any] = []
            try:
                digest = write_archive(
                    Path(self._settings.repository), lambda chunk: chunks.append(self._ray.put(chunk))
                )
            except OSError as error:
                raise LaunchError(f"{self._settings.repository}: cannot read: {error.strerror}") from error
            self._archive = digest, chunks
        self._call(worker, "provide_repository", *self._archive)

    def close(self, worker: str) -> None:
        """Have a worker end when its objects are finished."""
        self._call(worker, "close")

    def stop(self, worker: str) -> None:
        """Have a worker end when its requests in flight are finished."""
        self._call(worker, "stop")

    def kill(self, worker: str) -> None:
        """End a worker's process at once."""
        actor = self._actors.pop(worker, None)
        self._streams = {stream: name for stream, name in self._streams.items() if name != worker}
        if actor is not None:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(actor)

    def poll(self, timeout: float) -> Sequence[tuple[str, WorkerReport | WorkerLost]]:
        """Wait for reports and return them."""
        if not self._streams:
            time.sleep(timeout)
            return []
        streams = [*self._streams]
        ready, _ = self._ray.wait(streams, num_returns=1, timeout=timeout)
        if ready and len(streams) > 1:
            ready, _ = self._ray.wait(streams, num_returns=len(streams), timeout=0)
        return [(self._streams[stream], self._read(stream)) for stream in ready]

    def _read(self, stream: Any) -> WorkerReport | WorkerLost:
        try:
            report: WorkerReport = self._ray.get(next(stream))
        except StopIteration:
            return WorkerLost("its stream of reports ended")
        except self._ray.exceptions.RayError as error:
            return WorkerLost(describe_loss(str(error)))
        if report.has_ended:
            self._streams.pop(stream)
        return report

    def _call(self, worker: str, method: str, *arguments: Any) -> None:
        """Call a method of an actor without waiting; that the actor is lost is seen in its stream."""
        if (actor := self._actors.get(worker)) is not None:
            with contextlib.suppress(self._ray.exceptions.RayError):
                getattr(actor, method).remote(*arguments)


def describe_loss(message: str) -> str:
    """Return why a worker is lost, from the sentences of Ray's error.

    >>> describe_loss("The actor died because its node has died. Node Id: 12")
    'the node was lost'
    """
    if "ModuleNotFoundError" in message and "tritonforge" in message:
        return "tritonforge is not installed there. Install the same version on all nodes"
    if "node has died" in message or "node was terminated" in message or "node is dead" in message:
        return "the node was lost"
    if "OutOfMemory" in message or "running low on memory" in message:
        return "Ray ended the worker since the node's memory was full"
    if "unavailable" in message:
        return "the worker does not answer"
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line]
    if "died in its creation" in message or "creation task" in message.lower():
        return f"the worker did not start: {(errors or lines or ['unknown error'])[-1]}"
    return "the worker's process ended"


def _import_ray(*, is_own: bool) -> Any:
    """Import ray, which reads its settings from the environment at its import.

    A cluster of this command's own has a token of its own; a running cluster's is in the user's settings.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # Ray warns of a future default otherwise
    if is_own:
        # Ray replaces 127.0.0.1 by the machine's address, on which its servers then listen, unless it runs on one
        # machine only, as it does on Windows and macOS (ray_constants.ENABLE_RAY_CLUSTER).
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    import ray

    return ray
