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

from tritonforge.emulator.control import algorithms, job_runner, training_states
from tritonforge.emulator.control.cloudwatch import MetricBuffer
from tritonforge.emulator.control.job_runner import Task, Threads
from tritonforge.emulator.control.records import TrainingRecord
from tritonforge.emulator.control.resource_store import ResourceStore
from tritonforge.emulator.emulated_s3 import EmulatedS3, JobStore, make_private_folder
from tritonforge.emulator.hosting import program_containers
from tritonforge.errors import TritonForgeError
from tritonforge.sagemaker import package
from tritonforge.training.job import MetricValue, Outcome, Phase, TrainingJob
from tritonforge.transform.object_store import ObjectStore

__all__ = ["Trainer", "TrainingRunner"]

_KIND: Final = "training-job"

#: Seconds that programs have to write a checkpoint when the emulator is stopped; AWS would leave them two minutes.
_GRACE: Final = 5.0

#: Phases of the engine in which instances are at work.
_AT_WORK: Final = frozenset({"Downloading", "Training", "Uploading"})

#: Characters of a FailureReason (the service model's maximum).
_MAX_REASON: Final = 1024

#: What becomes of a job at a time.
_End: TypeAlias = Callable[[TrainingRecord, float], TrainingRecord]


class Trainer(Protocol):
    """Who runs a job: `run_training_job`, or what a test puts in its place."""

    def __call__(
        self,
        job: TrainingJob,
        *,
        program: Path,
        place: ObjectStore,
        work: Path,
        pack: Callable[[Path, Path], None],
        line: Callable[[str], None] | None = None,
        metric: Callable[[MetricValue], None] | None = None,
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


class TrainingRunner:
    """Runs training jobs; safe for use by many threads.

    ``line`` takes a line of the log (region, stream, line), ``measured`` the values of metrics (region, job, values),
    ``log`` sentences for the person. ``work`` holds /opt/ml of each job until it has ended.
    """

    def __init__(
        self,
        store: ResourceStore,
        *,
        trainer: Trainer,
        objects: EmulatedS3,
        work: Path,
        images: Mapping[str, str],
        speed: float,
        line: Callable[[str, str, str], None],
        measured: Callable[[str, str, list[MetricValue]], None],
        log: Callable[[str], None],
    ) -> None:
        self._store = store
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
        for region, job in self._store.trainings():
            if job.status in training_states.UNDER_WAY:
                self._change(region, job.name, training_states.mark_restarted)
                self.begin(region, job.name)

    def close(self) -> None:
        """Stop every thread and every program; the store stays as it is."""
        jobs = self._threads.close()
        self._threads.join(jobs, _GRACE)
        for work in jobs:
            work.kill.set()
        self._threads.join(jobs)

    def _run(self, region: str, name: str, work: _Work) -> None:
        try:
            job = self._store.training(region, name)
            assert job is not None
            folder = self._work / region / job.name.lower()
            shutil.rmtree(folder, ignore_errors=True)  # what a killed emulator left
            make_private_folder(folder)
            try:
                to = training_states.stop if job.status == "Stopping" else self._trained(region, job, folder, work)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            if not self._threads.closing:
                self._end(region, name, to)
        except Exception as error:  # a thread of its own: nobody else would ever hear of it
            self._log(f"training job {name}: {type(error).__name__}: {error}")
            if not self._threads.closing:
                internal = "InternalServerError: We encountered an internal error. Please try again."
                self._end(region, name, _fail(f"{internal} ({type(error).__name__}: {error})"))

    def _trained(self, region: str, job: TrainingRecord, folder: Path, work: _Work) -> _End:
        """Do a job, as far as it is not stopped; what becomes of it."""
        program = program_containers.find_program(job.image, self._images)
        if program is None:
            return _fail(f"ClientError: Requested image {job.image} not found. {program_containers.ADVICE}")
        if not job_runner.Delays(self._speed, work.stop).wait(job_runner.CREATION):
            return training_states.stop
        stream = f"{job.name}/algo-1-{int(time.time())}"
        metrics = MetricBuffer(
            lambda latest: self._change(region, job.name, lambda found, now: _record_metrics(found, latest)),
            lambda taken: self._measured(region, job.name, taken),
        )

        def entered(phase: Phase) -> None:
            metrics.flush()
            if phase in _AT_WORK:
                self._change(
                    region,
                    job.name,
                    lambda found, now: training_states.enter_phase(
                        training_states.mark_started(found, now), phase, now
                    ),
                )

        try:
            outcome = self._trainer(
                TrainingJob.from_request(algorithms.add_defaults(job.request, job.algorithm)),
                program=program,
                place=JobStore(self._objects, folder),
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
            return _fail(f"ClientError: {error}")
        finally:
            metrics.flush()
        for note in outcome.notes:
            self._line(region, stream, note)
        return _choose_end(outcome)

    def _end(self, region: str, name: str, to: _End) -> None:
        with self._store.lock:
            job = self._store.training(region, name)
            assert job is not None
            now = self._store.now(job.modified)
            # A job that was asked to stop is Stopped, even where it came to its end by itself.
            ended = training_states.stop(job, now) if job.status == "Stopping" else to(job, now)
            self._store.put(region, _KIND, ended)
        self._log(f"training job {name} {ended.status}{f': {ended.failure}' if ended.failure else ''}")

    def _change(self, region: str, name: str, to: _End) -> None:
        with self._store.lock:
            job = self._store.training(region, name)
            assert job is not None
            self._store.put(region, _KIND, to(job, self._store.now(job.modified)))


def _fail(reason: str) -> _End:
    return lambda job, now: training_states.fail(job, reason, now)


def _choose_end(outcome: Outcome) -> _End:
    if outcome.state == "Completed":
        return training_states.complete
    if outcome.state == "Stopped":
        secondary = outcome.why_stopped if outcome.why_stopped == "MaxRuntimeExceeded" else "Stopped"
        return lambda job, now: training_states.stop(job, now, secondary=secondary)
    return _fail(_find_reason(outcome))


def _find_reason(outcome: Outcome) -> str:
    """AWS's FailureReason: "AlgorithmError: <failure file>, exit code: 1"; a data failure's own sentence.

    Source: the answers quoted in aws/sagemaker-python-sdk and aws/amazon-sagemaker-examples issues ("AlgorithmError:
    framework error: ..., exit code: 1"). A program that a signal ended has 128 and its number, as a shell counts.
    """
    if outcome.failure.startswith("ClientError") or outcome.exit_code is None:
        return outcome.failure if outcome.failure.startswith("ClientError") else f"ClientError: {outcome.failure}"
    code = outcome.exit_code if outcome.exit_code >= 0 else 128 - outcome.exit_code
    tail = f", exit code: {code}"
    return f"AlgorithmError: {outcome.failure[: _MAX_REASON - len('AlgorithmError: ') - len(tail)]}{tail}"


def _record_metrics(job: TrainingRecord, latest: Mapping[str, MetricValue]) -> TrainingRecord:
    for each in latest.values():
        job = training_states.record_metric(job, each.name, each.value, round(each.seconds, 3))
    return job
