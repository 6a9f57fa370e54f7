"""A model that answers in this process and fails as requested, and transform jobs over folders."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tritonforge.errors import ConnectError
from tritonforge.records import frame_recordio, frame_tfrecord
from tritonforge.transform import (
    LocalStore,
    ModelClientConfig,
    Outcome,
    Reply,
    ServerLostError,
    TransformInput,
    TransformJob,
    TransformOutput,
    run,
)

FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "TFRecord": frame_tfrecord,
    "RecordIO": frame_recordio,
    "Line": lambda payload: payload + b"\n",
}


def answer_to(body: bytes) -> bytes:
    """What the model says to a body: a text that is another for every other body."""
    return hashlib.sha256(body).hexdigest()[:16].encode() + b":" + body[:20].hex().encode()


class Model:
    """An asker whose answers report what was asked. ``think`` is called with each body, and may give another reply."""

    def __init__(self, think: Callable[[bytes], Reply | None] = lambda body: None, *, delay: float = 0.0) -> None:
        self.think = think
        self.delay = delay
        self.bodies: list[bytes] = []
        self.headers: list[Mapping[str, str]] = []
        self.parameters: Mapping[str, Any] | None = None
        self.in_flight = self.most_in_flight = 0
        self.recovered = 0
        self.lock = threading.Lock()

    def invoke(self, body: Any, headers: Mapping[str, str], *, timeout: float) -> Reply:
        """An answer, a moment later."""
        with self.lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.headers.append(headers)
        try:
            data = bytes(body) if isinstance(body, (bytes, bytearray, memoryview)) else b"".join(map(bytes, body))
            with self.lock:
                self.bodies.append(data)
            if self.delay:
                # Other bodies wait another time, so that answers come in another order than requests go.
                time.sleep(self.delay * (1 + data[-1] % 7 if data else 1))
            return self.think(data) or Reply(200, {"content-type": "text/plain"}, answer_to(data))
        finally:
            with self.lock:
                self.in_flight -= 1

    def fetch_parameters(self) -> Mapping[str, Any] | None:
        """What the test set."""
        return self.parameters

    def recover(self, stop: threading.Event) -> None:
        """It is back at once."""
        self.recovered += 1


class ModelFaults:
    """Fails the first times that a body is asked: ``by`` maps a part of a body to how often, and with what."""

    def __init__(self, by: Mapping[bytes, tuple[int, Reply | Exception]]) -> None:
        self.by = dict(by)
        self.seen: dict[bytes, int] = {}
        self.lock = threading.Lock()

    def __call__(self, body: bytes) -> Reply | None:
        """The fault, where one is due."""
        for part, (times, fault) in self.by.items():
            if part in body:
                with self.lock:
                    self.seen[part] = self.seen.get(part, 0) + 1
                    due = self.seen[part] <= times
                if due and isinstance(fault, Exception):
                    raise fault
                if due:
                    assert isinstance(fault, Reply)
                    return fault
        return None


REFUSAL = Reply(400, {"content-type": "application/json"}, b'{"error":"this is not an image"}')
BREAKDOWN = Reply(503, {}, b"")
GONE = ServerLostError("the model's server ended before it answered", received=True)
AWAY = ServerLostError("no server answers", received=False)
LATE = ConnectError("no response within 600 s")


class Folder:
    """A job's input and output below one folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.source = path / "in"
        self.target = path / "out"
        self.work = path / "work"
        self.source.mkdir()

    def write(self, files: Mapping[str, bytes]) -> None:
        """Make input objects."""
        for key, content in files.items():
            file = self.source / key
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def outputs(self) -> dict[str, bytes]:
        """Every file below the output folder."""
        return {
            path.relative_to(self.target).as_posix(): path.read_bytes()
            for path in sorted(self.target.rglob("*"))
            if path.is_file()
        }

    def job(self, **fields: Any) -> TransformJob:
        """A job on these folders; fields of its input and output by their own names."""
        source = {name: fields.pop(name) for name in ("data_type", "content_type", "split_type") if name in fields}
        source |= {"compression_type": fields.pop("compression_type")} if "compression_type" in fields else {}
        target = {name: fields.pop(name) for name in ("accept", "assemble_with") if name in fields}
        retries = fields.pop("retries", None)
        if retries is not None:
            fields["model_client"] = ModelClientConfig(invocations_max_retries=retries)
        return TransformJob(
            input=TransformInput(uri=fields.pop("uri", str(self.source)), **source),
            output=TransformOutput(uri=str(self.target), **target),
            **fields,
        )

    def run(
        self, model: Any, *, work: bool = False, options: Mapping[str, Any] | None = None, **fields: Any
    ) -> Outcome:
        """Run a job on these folders."""
        return run(
            self.job(**fields),
            source=LocalStore(),
            sink=LocalStore(),
            client=model,
            work=self.work if work else None,
            **(options or {}),
        )
