"""Training jobs under way, each in a thread of its own: the program runs in namespaces, and its model goes to S3.

The engine is that of `tritonforge train`, over the emulated S3.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from tritonforge.emulator.control import algorithms, job_runner, training_states
from tritonforge.emulator.control.cloudwatch import MetricBuffer
from tritonforge.emulator.control.job_runner import INTERNAL_ERROR, REASON_LENGTH, Delays, JobRunner, Task
from tritonforge.emulator.control.records import TrainingRecord
from tritonforge.emulator.emulated_s3 import JobStore, make_private_folder
from tritonforge.emulator.hosting import program_containers
from tritonforge.errors import TritonForgeError
from tritonforge.sagemaker import package
from tritonforge.training.job import MetricValue, Outcome, Phase, TrainingJob
from tritonforge.transform.object_store import ObjectStore

__all__ = ["Trainer", "TrainingRunner"]

#: Phases of the engine in which instances are at work.
_AT_WORK: Final = frozenset({"Downloading", "Training", "Uploading"})

#: What becomes of a job at a time.
_End: TypeAlias = Callable[[TrainingRecord, float], TrainingRecord]


class Trainer(Protocol):
    """Who runs a job: `run_training_job`, or what a test puts in its place."""

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
        """Run a job to its end."""
        ...


class TrainingRunner(JobRunner[TrainingRecord]):
    """Runs training jobs: the program runs in namespaces, and its model is written to S3."""

    #: Programs have this many seconds to write a checkpoint when the emulator is stopped; AWS leaves them two minutes.
    grace = 5.0

    def restore(self) -> None:
        """Start every unfinished job again with its checkpoints, after a restart."""
        shutil.rmtree(self.services.work / "trainings", ignore_errors=True)  # what killed emulators left
        for region, job in self.store.list_all(self.kind):
            if self.is_unfinished(job):
                self.store.change(self.kind, region, job.name, training_states.mark_restarted)
        super().restore()

    def run(self, task: Task) -> None:
        """Run a job to its end, and remove its folder."""
        job = self.find(task)
        folder = self.services.work / "trainings" / task.region / job.name.lower()
        shutil.rmtree(folder, ignore_errors=True)  # what a killed emulator left
        make_private_folder(folder)
        try:
            end = training_states.stop if job.status == "Stopping" else self._train(task, job, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        if not self.closing.is_set():
            self._end(task, end)

    def fail(self, task: Task, reason: str) -> None:
        """End a job with AWS's sentence for an error of its own."""
        self._end(task, _fail(f"{INTERNAL_ERROR} ({reason})"))

    def _train(self, task: Task, job: TrainingRecord, folder: Path) -> _End:
        """Run a job unless it is stopped; return how it ends."""
        program = program_containers.find_program(job.image, self.services.images)
        if program is None:
            return _fail(f"ClientError: Requested image {job.image} not found. {program_containers.ADVICE}")
        if not Delays(self.services.speed, task.stop).wait(job_runner.CREATION):
            return training_states.stop
        stream = f"{job.name}/algo-1-{int(time.time())}"
        metrics = MetricBuffer(
            lambda latest: self.change(task, lambda record, now: _record_metrics(record, latest)),
            lambda values: self.services.publish(task.region, job.name, values),
        )

        def write(line: str) -> None:
            self.services.write_line(task.region, self.kind.log_group, stream, line)

        def enter(phase: Phase) -> None:
            metrics.flush()
            if phase in _AT_WORK:
                self.change(
                    task,
                    lambda record, now: training_states.enter_phase(job_runner.mark_started(record, now), phase, now),
                )

        try:
            outcome = self.services.trainer(
                TrainingJob.from_request(algorithms.add_defaults(job.request, job.algorithm)),
                program=program,
                store=JobStore(self.services.s3, folder),
                work=folder / "work",
                pack=package.pack,
                on_line=write,
                on_metric=metrics.take,
                on_phase=enter,
                stop=task.stop,
                kill=task.kill,
                arn=job.arn,
            )
        except TritonForgeError as error:
            return _fail(f"ClientError: {error}")
        finally:
            metrics.flush()
        for note in outcome.notes:
            write(note)
        return _choose_end(outcome)

    def _end(self, task: Task, end: _End) -> None:
        # A job that was asked to stop is Stopped, even if it came to its end by itself.
        self.log_status(
            self.change(
                task,
                lambda job, now: training_states.stop(job, now) if job.status == "Stopping" else end(job, now),
            )
        )


def _fail(reason: str) -> _End:
    return lambda job, now: training_states.fail(job, reason, now)


def _choose_end(outcome: Outcome) -> _End:
    if outcome.state == "Completed":
        return training_states.complete
    if outcome.state == "Stopped":
        secondary = outcome.stop_reason if outcome.stop_reason == "MaxRuntimeExceeded" else "Stopped"
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
    return f"AlgorithmError: {outcome.failure[: REASON_LENGTH - len('AlgorithmError: ') - len(tail)]}{tail}"


def _record_metrics(job: TrainingRecord, latest: Mapping[str, MetricValue]) -> TrainingRecord:
    for each in latest.values():
        job = training_states.record_metric(job, each.name, each.value, round(each.seconds, 3))
    return job
