"""Containers that echo, refuse, fail or wait as a record asks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tests.support.fakes import FakeContainer, FakeContainers
from tritonforge.emulator.emulated_s3 import EmulatedS3
from tritonforge.emulator.hosting import ContainerError, ContainerGoneError, UnhealthyError, Variant
from tritonforge.emulator.interfaces import ContainerResponse


class Echo(FakeContainer):
    """Answers with the body in capitals; ``refuse``, ``break``, ``slow``, ``pause``, ``wait`` in a body do so."""

    def __init__(self, variant: Variant, ended: Callable[[FakeContainer], None], gate: threading.Event) -> None:
        super().__init__(variant, ended)
        self.gate = gate
        self.seen: list[tuple[bytes, Mapping[str, str], float]] = []
        self.in_flight = 0
        self.most_in_flight = 0
        self.lock = threading.Lock()

    def invoke(self, body: bytes, headers: Mapping[str, str], *, timeout: float) -> ContainerResponse:
        """The body in capitals."""
        body = b"".join(body) if isinstance(body, Iterator) else bytes(body)  # type: ignore[arg-type]  # chunked
        with self.lock:
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self.seen.append((body, headers, timeout))
        try:
            if b"wait" in body:
                while not self.gate.wait(0.01):
                    if self.stopped:
                        raise ContainerGoneError("the container was stopped", in_flight=True)
            if self.stopped:
                raise ContainerGoneError("the container was stopped")
            if b"pause" in body:
                time.sleep(0.005)  # long enough for others to come in between
            if b"slow" in body:
                raise TimeoutError(f"no answer within {timeout:g} s")
            if b"refuse" in body:
                return ContainerResponse(
                    400, {"content-type": "application/json"}, b'{"error": "this is not a record"}'
                )
            if b"break" in body:
                return ContainerResponse(500, {}, b"a bug")
            return ContainerResponse(200, {"content-type": "text/plain"}, body.upper())
        finally:
            with self.lock:
                self.in_flight -= 1

    def get(self, path: str, *, timeout: float) -> ContainerResponse:
        """/execution-parameters where the model's environment has them."""
        reported = self.variant.container.environment.get("PARAMETERS")
        if path == "/execution-parameters" and reported:
            return ContainerResponse(200, {"content-type": "application/json"}, reported.encode())
        return super().get(path, timeout=timeout)


class Echoes(FakeContainers):
    """Starts such containers; ``UNHEALTHY`` and ``MISSING`` in a model's environment keep one from starting."""

    def start(
        self,
        variant: Variant,
        *,
        objects: EmulatedS3,
        folder: Path,
        log: Callable[[str], None],
        images: Mapping[str, str] | None = None,
        cancelled: threading.Event | None = None,
    ) -> Echo:
        """A container for a job."""
        log(f"a container of {variant.container.image} starts")
        environment = variant.container.environment
        if "UNHEALTHY" in environment:
            raise UnhealthyError("The primary container did not pass the ping health check.", detail="No weights.")
        if "MISSING" in environment:
            raise ContainerError("Failed to download model data.")
        container = Echo(variant, self.running.remove, self.gate)
        self.started.append(container)
        self.running.append(container)
        return container
