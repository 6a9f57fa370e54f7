"""The processes that send the requests of a load, and what they report. See `load_worker` for what they run."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote, urlsplit

import numpy as np
import numpy.typing as npt

from tritonforge.errors import ConnectError
from tritonforge.inference.wire import Payload, sagemaker_headers, triton_headers
from tritonforge.profiling.load import ClosedLoop, GeneratorUsage, Load, OpenLoop
from tritonforge.profiling.target import Target

__all__ = ["FRAME_SECONDS", "LoadProcesses"]

Array = npt.NDArray[np.float64]

#: Seconds between two reports of a process.
FRAME_SECONDS: Final = 0.1
#: Connections of an open loop, and threads of one through a transport.
_MOST_CONNECTIONS: Final = 512
_MOST_THREADS: Final = 64
#: Seconds that requests in flight get at the end.
_EXIT: Final = 10.0


class LoadProcess:
    """A process that sends requests, and what it reported."""

    def __init__(self, plan: Mapping[str, Any], messages: Sequence[bytes]) -> None:
        self.lock = threading.Lock()
        self.chunks: list[Array] = []
        self.errors: list[tuple[float, str, int]] = []
        self.usage: list[tuple[float, float]] = []  # monotonic clock, processor seconds
        command = [sys.executable, "-P", "-m", "tritonforge.profiling.load_worker"]
        if sys.version_info < (3, 11):
            command.remove("-P")
        self.process = subprocess.Popen(  # noqa: S603 - this interpreter, with a module of this package
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._complaint = b""
        self._threads = [
            threading.Thread(target=self._read, daemon=True),
            threading.Thread(target=self._read_complaint, daemon=True),
        ]
        for thread in self._threads:
            thread.start()
        assert self.process.stdin is not None  # a pipe
        with contextlib.suppress(BrokenPipeError):  # `check` reports why it ended
            self.process.stdin.write(json.dumps(plan).encode() + b"\n")
            for message in messages:
                self.process.stdin.write(message)
            self.process.stdin.flush()

    def check(self) -> None:
        """Raise ConnectError if the process ended by itself."""
        if self.process.poll() is not None:
            self._threads[1].join(1.0)
            lines = self._complaint.decode("utf-8", "replace").strip().splitlines()
            reason = lines[-1] if lines else f"exit code {self.process.returncode}"
            raise ConnectError(f"a process of the load generator ended: {reason}")

    def close(self) -> None:
        """Request the end; requests in flight are answered first."""
        if self.process.stdin is not None and not self.process.stdin.closed:
            with contextlib.suppress(BrokenPipeError):
                self.process.stdin.close()

    def wait(self) -> None:
        """Wait for the end, for a while."""
        try:
            self.process.wait(_EXIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for thread in self._threads:
            thread.join(1.0)
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None  # a pipe
        while line := stream.readline():
            head = json.loads(line)
            data = stream.read(8 * head["times"])
            rows = np.frombuffer(data, dtype=np.float64).reshape(-1, 3)
            with self.lock:
                if len(rows):
                    self.chunks.append(rows)
                self.errors += [(head["now"], sentence, count) for sentence, count in head["errors"].items()]
                self.usage.append((head["now"], head["cpu"]))

    def _read_complaint(self) -> None:
        assert self.process.stderr is not None  # a pipe
        self._complaint = self.process.stderr.read()[-4096:]


class LoadProcesses:
    """The processes of one load; a context manager."""

    def __init__(
        self,
        target: Target,
        requests: Sequence[Payload],
        load: Load,
        *,
        count: int,
        scripts: Sequence[Sequence[int]],
        seed: int,
        timeout: float,
    ) -> None:
        bodies = [request.body for request in requests]
        messages = [_build_http(target, request) for request in requests] if target.is_direct else bodies
        split = urlsplit(target.url)
        self.workers: list[LoadProcess] = []
        try:
            for number in range(count):
                mine = [list(script) for script in scripts[number::count]] or [list(script) for script in scripts]
                plan = {
                    "engine": "http" if target.is_direct else "transport",
                    "host": split.hostname,
                    "port": split.port or 80,
                    "url": target.url,
                    "model": target.model,
                    "model_version": target.model_version,
                    "front_end": target.front_end,
                    "is_decoupled": target.is_decoupled,
                    "options": dict(target.options),
                    "header_lengths": [request.header_length for request in requests],
                    "sizes": [len(message) for message in messages],
                    "scripts": mine,
                    "connections": _share_connections(target, load, number, count),
                    "rate": load.rate / count if isinstance(load, OpenLoop) else None,
                    "is_poisson": isinstance(load, OpenLoop) and load.is_poisson,
                    "seed": seed + number,
                    "offset": number / count,
                    "timeout": timeout,
                }
                self.workers.append(LoadProcess(plan, messages))
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __enter__(self) -> LoadProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.close()
        for worker in self.workers:
            worker.wait()

    def read_times(self, begin: float, end: float) -> Array:
        """Return the answers of a time, as rows of due, sent and answered, in the order of the answers."""
        rows: list[Array] = []
        for worker in self.workers:
            worker.check()
            with worker.lock:
                # Chunks are in the order of time: those before the begin are passed over.
                for chunk in reversed(worker.chunks):
                    if chunk[-1, 2] < begin:
                        break
                    rows.append(chunk)
        if not rows:
            return np.zeros((0, 3))
        joined = np.concatenate(rows)
        joined = joined[(joined[:, 2] > begin) & (joined[:, 2] <= end)]
        ordered: Array = joined[np.argsort(joined[:, 2], kind="stable")]
        return ordered

    def count_answers(self, begin: float) -> int:
        """Return how many answers there are since a time, to the precision of a frame."""
        count = 0
        for worker in self.workers:
            with worker.lock:
                for chunk in reversed(worker.chunks):
                    if chunk[0, 2] < begin:
                        break
                    count += len(chunk)
        return count

    def count_errors(self, begin: float, end: float) -> dict[str, int]:
        """Return the errors of a time, to the precision of a frame."""
        counted: dict[str, int] = {}
        for worker in self.workers:
            with worker.lock:
                for now, sentence, count in worker.errors:
                    if begin < now <= end + FRAME_SECONDS:
                        counted[sentence] = counted.get(sentence, 0) + count
        return counted

    def measure_usage(self, begin: float, end: float) -> GeneratorUsage:
        """Return the share of a processor that the processes took in a time."""
        shares = []
        for worker in self.workers:
            with worker.lock:
                readings = [
                    reading for reading in worker.usage if begin - FRAME_SECONDS <= reading[0] <= end + FRAME_SECONDS
                ]
            if len(readings) > 1 and readings[-1][0] > readings[0][0]:
                shares.append((readings[-1][1] - readings[0][1]) / (readings[-1][0] - readings[0][0]))
        return GeneratorUsage(len(self.workers), sum(shares), max(shares, default=0.0))


def _build_http(target: Target, request: Payload) -> bytes:
    """Return a request as it is sent: head and body in one piece."""
    split = urlsplit(target.url)
    if target.front_end == "triton":
        version = f"/versions/{quote(target.model_version, safe='')}" if target.model_version else ""
        path = f"/v2/models/{quote(target.model or '', safe='')}{version}/infer"
        headers = triton_headers(request)
    else:
        path = f"/models/{quote(target.model, safe='')}/invoke" if target.model else "/invocations"
        headers = sagemaker_headers(request)
    lines = [
        f"POST {split.path.rstrip('/')}{path} HTTP/1.1",
        f"Host: {split.netloc}",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"Content-Length: {request.size}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + request.body


def _share_connections(target: Target, load: Load, number: int, count: int) -> int:
    """Return how many connections a process opens."""
    if isinstance(load, ClosedLoop):
        return load.concurrency // count + (number < load.concurrency % count)
    return (_MOST_CONNECTIONS if target.is_direct else _MOST_THREADS) // count
