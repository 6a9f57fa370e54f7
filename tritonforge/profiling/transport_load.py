"""Sends requests through a transport of the client (gRPC, SageMaker, HTTPS) from threads.

It measures what `HttpLoad` measures. A thread sends one request at a time; with ``dues`` a thread takes the next due
time and waits for it.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from tritonforge.errors import TritonForgeError
from tritonforge.profiling.http_load import Samples

__all__ = ["TransportLoad"]

#: Sends the request of a number and returns when its last answer arrived.
Send = Callable[[int], None]

#: Seconds until a request is sent after one that failed.
_RETRY = 0.1


class TransportLoad:
    """Sends requests until `stop` was called and all answers are there.

    Args:
        send: sends a message by its number; it is called by several threads.
        scripts: the order of the messages of each thread; the threads take the scripts in turn.
        connections: how many threads.
        dues: when requests are due, in seconds of the monotonic clock; None to send as soon as the last answer arrived.
        samples: gets what is measured.
    """

    def __init__(
        self,
        send: Send,
        *,
        scripts: Sequence[Sequence[int]],
        connections: int,
        dues: Iterator[float] | None,
        samples: Samples,
    ) -> None:
        self._send = send
        self._scripts = scripts
        self._dues = dues
        self._samples = samples
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._run_thread, args=(number,), daemon=True) for number in range(connections)
        ]

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped.set()

    def run(self, *, control: int, on_tick: Callable[[], bool], tick: float) -> None:
        """Run until `stop`; the arguments are those of `HttpLoad.run`."""
        for thread in self._threads:
            thread.start()
        while on_tick():
            select.select([control], [], [], tick)
        self.stop()
        for thread in self._threads:
            thread.join()

    def close(self) -> None:
        """Do nothing: the threads ended."""

    def take(self) -> Samples:
        """Return what was measured since the last call."""
        with self._lock:
            taken = Samples()
            taken.times, self._samples.times = self._samples.times, taken.times
            taken.errors, self._samples.errors = self._samples.errors, taken.errors
        return taken

    def _run_thread(self, number: int) -> None:
        script = self._scripts[number % len(self._scripts)]
        place = (number // len(self._scripts)) % len(script)
        while not self._stopped.is_set():
            if self._dues is None:
                due = sent = time.monotonic()
            else:
                with self._lock:
                    due = next(self._dues)
                while (left := due - time.monotonic()) > 0:
                    if self._stopped.wait(left):
                        return
                sent = time.monotonic()
            failure = ""
            try:
                self._send(script[place])
            except TritonForgeError as error:
                failure = str(error)
            except OSError as error:
                failure = os.strerror(error.errno) if error.errno else str(error)
            end = time.monotonic()
            with self._lock:
                if failure:
                    self._samples.add_error(failure)
                else:
                    self._samples.add(due, sent, end)
            place = (place + 1) % len(script)
            if failure:
                self._stopped.wait(_RETRY)
