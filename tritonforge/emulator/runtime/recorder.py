"""The recorder: captured lines wait in memory and go to S3 a file at a time."""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from collections.abc import Callable
from typing import Final

from tritonforge.emulator.objects import ObjectMissingError, ObjectStore
from tritonforge.emulator.requests import Capture, LiveEndpoint
from tritonforge.emulator.runtime import capture as lines
from tritonforge.emulator.runtime.weights import Sampling

__all__ = ["Recorder"]

#: Seconds between two files of a variant; AWS takes "a couple of minutes".
_PERIOD: Final = 60.0

#: Bytes of a file after which it is written at once.
_LARGEST: Final = 32 * 2**20


class Recorder:
    """Captures the exchanges of all endpoints; for use by many threads.

    ``say`` is told (endpoint, sentence) when a file could not be written.
    """

    def __init__(self, objects: ObjectStore, *, speed: float, say: Callable[[str, str], None]) -> None:
        self._objects = objects
        self._period = _PERIOD / speed
        self._say = say
        self._lock = threading.Lock()
        self._sampling: dict[str, Sampling] = {}
        self._files: dict[tuple[str, str, str], _File] = {}
        self._timer: threading.Timer | None = None
        self._closed = False

    def wants(self, endpoint: LiveEndpoint) -> bool:
        """Whether the next exchange of an endpoint is to be captured; to be asked once an exchange."""
        if endpoint.capture is None:
            return False
        with self._lock:
            return self._sampling.setdefault(endpoint.name, Sampling()).takes(endpoint.capture.percentage)

    def add(self, endpoint: str, variant: str, capture: Capture, exchange: lines.Exchange) -> None:
        """Capture one exchange."""
        text = lines.line(exchange, capture).encode()
        hour = exchange.time.strftime("%Y%m%d%H")
        with self._lock:
            file = self._files.setdefault((endpoint, variant, hour), _File(capture, exchange.time))
            file.pieces.append(text)
            file.size += len(text)
            full = file.size >= _LARGEST
            if self._timer is None and not self._closed:
                self._timer = threading.Timer(self._period, self._tick)
                self._timer.daemon = True
                self._timer.start()
        if full:
            self.flush(endpoint)

    def flush(self, endpoint: str | None = None) -> None:
        """Write what waits, of one endpoint or of all."""
        with self._lock:
            chosen = [each for each in self._files if endpoint in (None, each[0])]
            files = [(each, self._files.pop(each)) for each in chosen]
        for (name, variant, _), file in files:
            uri = lines.key(file.capture, endpoint=name, variant=variant, time=file.time, name=str(uuid.uuid4()))
            try:
                self._objects.put(uri, b"".join(file.pieces), content_type="application/jsonlines")
            except ObjectMissingError as error:
                self._say(name, f"data capture: {uri} was not written: {error}")

    def close(self) -> None:
        """Write everything, and end."""
        with self._lock:
            self._closed = True
            if self._timer is not None:
                self._timer.cancel()
        self.flush()

    def _tick(self) -> None:
        with self._lock:
            self._timer = None
        self.flush()


class _File:
    """The lines of one file: an hour's, of one variant."""

    def __init__(self, capture: Capture, time: dt.datetime) -> None:
        self.capture = capture
        self.time = time
        self.pieces: list[bytes] = []
        self.size = 0
