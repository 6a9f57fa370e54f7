"""Training jobs under way, each in a thread of its own: the program runs in namespaces, and its model goes to S3.

The engine is that of `tritonforge train`, over the emulated S3.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from tritonforge.emulator.control import delays
from tritonforge.emulator.control.records import Training
from tritonforge.emulator.control.resource_store import Ledger
from tritonforge.emulator.control.threads import Task, Threads
from tritonforge.emulator.control.training import compatibility, states
from tritonforge.emulator.control.training.metrics import Metrics
from tritonforge.emulator.hosting import programs
from tritonforge.emulator.jobs.place import EmulatedPlace
from tritonforge.emulator.objects import ObjectStore
from tritonforge.emulator.private_files import make_private
from tritonforge.errors import TritonForgeError
from tritonforge.sagemaker import package
from tritonforge.training.job import Measured, Outcome, Phase, TrainingJob
from tritonforge.transform.places import Place

__all__ = ["Trainer", "Trainings"]

_KIND: Final = "training-job"

#: Seconds that programs have to write a checkpoint when the emulator is stopped; AWS would leave them two minutes.
_FAREWELL: Final = 5.0

#: Phases of the engine in which instances are at work.
_AT_WORK: Final = frozenset({"Downloading", "Training", "Uploading"})

#: Characters of a FailureReason (the service model's maximum).
_LONGEST: Final = 1024

#: What becomes of a job at a time.
_End: TypeAlias = Callable[[Training, float], Training]


class Trainer(Protocol):
    """Who runs a job: `tritonforge.training.job.run`, or what a test puts in its place."""

    def __call__(
        self,
        job: TrainingJob,
        *,
        program: Path,
        place: Place,
        work: Path,
        pack: Callable[[Path, Path], None],
        line: Callable[[str], None] | None = None,
        metric: Callable[[Measured], None] | None = None,
        phase: Callable[[Phase], None] | None = None,
        stop: threading.Event | None = None,
        kill: threading.Event | None = None,
        arn: str = "",
    ) -> Outcome:
        """Run a job to its end."""
        ...


@dataclass(slots=True)
class _Work(Task):
    """A job that a thread is at; ``kill`` ends it without waiting for its program."""

    kill: threading.Event = field(default_factory=threading.Event)


class Trainings:
    """Runs training jobs; safe for use by many threads.

    ``line`` takes a line of the log (region, stream, line), ``measured`` the values of metrics (region, job, values),
    ``log`` sentences for the person. ``work`` holds /opt/ml of each job until it has ended.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        trainer: Trainer,
        objects: ObjectStore,
        work: Path,
        images: Mapping[str, str],
        speed: float,
        line: Callable[[str, str, str], None],
        measured: Callable[[str, str, list[Measured]], None],
        log: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._trainer = trainer
        self._objects = objects
        self._work = work
        self._images = images
        self._speed = speed
        self._line = line
        self._measured = measured
        self._log = log
        self._threads = Threads(_Work, self._run)

    def begin(self, region: str, name: str) -> None:
        """Start what the status of a job asks for."""
        self._threads.begin(region, name)

    def stop(self, region: str, name: str) -> None:
        """End a job early; its status says so already."""
        with self._threads.guard:
            work = self._threads.find(region, name)
        if work is not None:
            work.stop.set()

    def restore(self) -> None:
        """Take up every job that was under way, after a restart: it starts again, with its checkpoints."""
        shutil.rmtree(self._work, ignore_errors=True)  # what killed emulators left
        for region, job in self._ledger.trainings():
            if job.status in states.UNDER_WAY:
                self._change(region, job.name, states.started_again)
                self.begin(region, job.name)

    def close(self) -> None:
        """Stop every thread and every program; the ledger stays as it is."""
        jobs = self._threads.close()
        self._threads.join(jobs, _FAREWELL)
        for work in jobs:
            work.kill.set()
        self._threads.join(jobs)

    def _run(self, region: str, name: str, work: _Work) -> None:
        try:
            job = self._ledger.training(region, name)
            assert job is not None
            folder = self._work / region / job.name.lower()
            shutil.rmtree(folder, ignore_errors=True)  # what a killed emulator left
            make_private(folder)
            try:
                to = states.stopped if job.status == "Stopping" else self._trained(region, job, folder, work)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            if not self._threads.closing:
                self._end(region, name, to)
        except Exception as error:  # a thread of its own: nobody else would ever hear of it
            self._log(f"training job {name}: {type(error).__name__}: {error}")
            if not self._threads.closing:
                internal = "InternalServerError: We encountered an internal error. Please try again."
                self._end(region, name, _failed(f"{internal} ({type(error).__name__}: {error})"))

    def _trained(self, region: str, job: Training, folder: Path, work: _Work) -> _End:
        """Do a job, as far as it is not stopped; what becomes of it."""
        program = programs.folder(job.image, self._images)
        if program is None:
            return _failed(f"ClientError: Requested image {job.image} not found. {programs.ADVICE}")
        if not delays.Pauses(self._speed, work.stop).wait(delays.CREATION):
            return states.stopped
        stream = f"{job.name}/algo-1-{int(time.time())}"
        metrics = Metrics(
            lambda latest: self._change(region, job.name, lambda found, now: _measured(found, latest)),
            lambda taken: self._measured(region, job.name, taken),
        )

        def entered(phase: Phase) -> None:
            metrics.flush()
            if phase in _AT_WORK:
                self._change(region, job.name, lambda found, now: states.entered(states.began(found, now), phase, now))

        try:
            outcome = self._trainer(
                TrainingJob.from_request(compatibility.completed(job.request, job.algorithm)),
                program=program,
                place=EmulatedPlace(self._objects, folder),
                work=folder / "work",
                pack=package.pack,
                line=lambda line: self._line(region, stream, line),
                metric=metrics.take,
                phase=entered,
                stop=work.stop,
                kill=work.kill,
                arn=job.arn,
            )
        except TritonForgeError as error:
            return _failed(f"ClientError: {error}")
        finally:
            metrics.flush()
        for note in outcome.notes:
            self._line(region, stream, note)
        return _ended(outcome)

    def _end(self, region: str, name: str, to: _End) -> None:
        with self._ledger.lock:
            job = self._ledger.training(region, name)
            assert job is not None
            now = self._ledger.now(job.modified)
            # A job that was asked to stop is Stopped, even where it came to its end by itself.
            ended = states.stopped(job, now) if job.status == "Stopping" else to(job, now)
            self._ledger.put(region, _KIND, ended)
        self._log(f"training job {name} {ended.status}{f': {ended.failure}' if ended.failure else ''}")

    def _change(self, region: str, name: str, to: _End) -> None:
        with self._ledger.lock:
            job = self._ledger.training(region, name)
            assert job is not None
            self._ledger.put(region, _KIND, to(job, self._ledger.now(job.modified)))


def _failed(reason: str) -> _End:
    return lambda job, now: states.failed(job, reason, now)


def _ended(outcome: Outcome) -> _End:
    if outcome.state == "Completed":
        return states.completed
    if outcome.state == "Stopped":
        secondary = outcome.why_stopped if outcome.why_stopped == "MaxRuntimeExceeded" else "Stopped"
        return lambda job, now: states.stopped(job, now, secondary=secondary)
    return _failed(_reason(outcome))


def _reason(outcome: Outcome) -> str:
    """AWS's FailureReason: "AlgorithmError: <failure file>, exit code: 1"; a data failure's own sentence.

    Source: the answers quoted in aws/sagemaker-python-sdk and aws/amazon-sagemaker-examples issues ("AlgorithmError:
    framework error: ..., exit code: 1"). A program that a signal ended has 128 and its number, as a shell counts.
    """
    if outcome.failure.startswith("ClientError") or outcome.exit_code is None:
        return outcome.failure if outcome.failure.startswith("ClientError") else f"ClientError: {outcome.failure}"
    code = outcome.exit_code if outcome.exit_code >= 0 else 128 - outcome.exit_code
    tail = f", exit code: {code}"
    return f"AlgorithmError: {outcome.failure[: _LONGEST - len('AlgorithmError: ') - len(tail)]}{tail}"


def _measured(job: Training, latest: Mapping[str, Measured]) -> Training:
    for each in latest.values():
        job = states.measured(job, each.name, each.value, round(each.seconds, 3))
    return job
