"""Containers and a trainer that run nothing, for tests of what is around them.

>>> with Emulator(containers=FakeContainers(), trainer=FakeTrainer(), speed=100) as aws:          # doctest: +SKIP
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tritonforge.emulator.emulated_s3 import EmulatedS3
from tritonforge.emulator.hosting import ContainerError, ContainerGoneError, Variant
from tritonforge.emulator.interfaces import ContainerResponse
from tritonforge.training.job import MetricValue, Outcome, Phase, TrainingJob
from tritonforge.transform.object_store import ObjectStore

__all__ = ["FakeContainer", "FakeContainers", "FakeTrainer"]

#: Seconds between two looks at the gate.
_PERIOD: Final = 0.005


class FakeContainer:
    """A container that answers every request with its variant."""

    multi_model = False

    def __init__(self, variant: Variant, ended: Callable[[FakeContainer], None]) -> None:
        self.variant = variant
        self.stopped = False
        self._ended = ended

    def invoke(self, body: bytes, headers: Mapping[str, str], *, timeout: float) -> ContainerResponse:
        """The variant's name, the image, the model's address, the body's length and the headers, as JSON."""
        if self.stopped:
            raise ContainerGoneError(f"the container of {self.variant.name} was stopped")
        data = self.variant.container.model_data
        answer = {
            "variant": self.variant.name,
            "image": self.variant.container.image,
            "model": data.uri if data else "",
            "bytes": len(body),
            "headers": dict(headers),
        }
        return ContainerResponse(200, {"content-type": "application/json"}, json.dumps(answer).encode())

    def get(self, path: str, *, timeout: float) -> ContainerResponse:
        """200 without a body for /ping; no other path is known."""
        if self.stopped:
            raise ContainerGoneError(f"the container of {self.variant.name} was stopped")
        return ContainerResponse(200 if path == "/ping" else 404, {}, b"")

    def invoke_model(
        self, target_model: str, body: bytes, headers: Mapping[str, str], *, timeout: float
    ) -> ContainerResponse:
        """As `invoke`."""
        return self.invoke(body, headers, timeout=timeout)

    def stop(self, *, drain: float = 30.0) -> None:
        """It answers no more."""
        if not self.stopped:
            self.stopped = True
            self._ended(self)


class FakeContainers:
    """Starts containers that run nothing, instead of the module `hosting`.

    ``fails`` gives the FailureReason of a variant that is not to start, None for the others; ``seconds`` is what a
    start takes, and none ends while ``gate`` is clear. ``started`` holds every container that was ever started,
    ``running`` those that were not stopped.
    """

    def __init__(self, *, fails: Callable[[Variant], str | None] = lambda variant: None, seconds: float = 0.0) -> None:
        self.fails = fails
        self.seconds = seconds
        self.gate = threading.Event()
        self.gate.set()
        self.started: list[FakeContainer] = []
        self.running: list[FakeContainer] = []

    def start(
        self,
        variant: Variant,
        *,
        objects: EmulatedS3,
        folder: Path,
        log: Callable[[str], None],
        images: Mapping[str, str] | None = None,
        cancelled: threading.Event | None = None,
    ) -> FakeContainer:
        """A container for a variant; raises ContainerError where ``fails`` says so, or ``cancelled`` is set."""
        log(f"a stand-in for {variant.container.image} starts")
        cancelled = cancelled or threading.Event()
        cancelled.wait(self.seconds)
        while not self.gate.is_set() and not cancelled.wait(_PERIOD):
            continue
        if cancelled.is_set():
            raise ContainerError("The start was cancelled.")
        reason = self.fails(variant)
        if reason is not None:
            log(reason)
            raise ContainerError(reason)
        container = FakeContainer(variant, self.running.remove)
        self.started.append(container)
        self.running.append(container)
        return container


class FakeTrainer:
    """Runs no program, instead of `run_training_job`; the model is the job's hyperparameters as JSON.

    ``ends`` gives the outcome of a job, None for those that complete; none ends while ``gate`` is clear, unless it is
    stopped. ``started`` holds every job that was ever started. Each metric definition has a value of 0.5.
    """

    def __init__(self, *, ends: Callable[[TrainingJob], Outcome | None] = lambda job: None) -> None:
        self.ends = ends
        self.gate = threading.Event()
        self.gate.set()
        self.started: list[TrainingJob] = []

    def __call__(
        self,
        job: TrainingJob,
        *,
        program: Path,
        store: ObjectStore,
        work: Path,
        pack: Callable[[Path, Path], None],
        on_line: Callable[[str], None] | None = None,
        on_metric: Callable[[MetricValue], None] | None = None,
        on_phase: Callable[[Phase], None] | None = None,
        stop: threading.Event | None = None,
        kill: threading.Event | None = None,
        arn: str = "",
    ) -> Outcome:
        """Go through the phases of a job."""
        assert on_line is not None
        assert on_metric is not None
        assert on_phase is not None
        assert stop is not None
        self.started.append(job)
        on_phase("Downloading")
        on_phase("Training")
        on_line(f"a stand-in for {program.name} trains {arn}")
        for metric in (job.algorithm and job.algorithm.metric_definitions) or ():
            on_metric(MetricValue(metric.name, 0.5, time.time()))
        while not self.gate.is_set() and not stop.wait(_PERIOD):
            continue
        outcome = self.ends(job)
        if outcome is not None:
            return outcome
        on_phase("Uploading")
        folder = work / "model"
        folder.mkdir(parents=True)
        (folder / "model.json").write_text(json.dumps(job.hyperparameters or {}), encoding="utf-8")
        archive = work / "model.tar.gz"
        pack(folder, archive)
        store.put(archive, job.artifact_uri)
        return Outcome(state="Stopped" if stop.is_set() else "Completed", exit_code=0, artifact=job.artifact_uri)
