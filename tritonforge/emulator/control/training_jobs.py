"""Training jobs: CreateTrainingJob, Describe, List, Stop and Delete, and the runner that brings a job to its end.

The engine is that of `tritonforge train`, over the emulated S3.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from tritonforge.emulator.control import algorithms, job_runner, training_states
from tritonforge.emulator.control.api_errors import (
    ApiError,
    build_image_error,
    build_job_not_found_error,
    build_training_job_name_error,
    build_validation_error,
)
from tritonforge.emulator.control.cloudwatch import MetricBuffer
from tritonforge.emulator.control.job_runner import INTERNAL_ERROR, REASON_LENGTH, UNFINISHED, Delays, JobRunner, Task
from tritonforge.emulator.control.model_registry import ALGORITHM, is_validation_job
from tritonforge.emulator.control.records import TrainingRecord, add_tags, build_page, describe_record
from tritonforge.emulator.control.request_context import Operation, RequestContext
from tritonforge.emulator.control.resource_store import InstanceUsage, ResourceKind
from tritonforge.emulator.emulated_s3 import JobStore, make_private_folder
from tritonforge.emulator.hosting import program_containers
from tritonforge.errors import TritonForgeError
from tritonforge.sagemaker import package
from tritonforge.training.job import MetricValue, Outcome, Phase, TrainingJob
from tritonforge.training.job.request import find_unsupported

__all__ = ["OPERATIONS", "TRAINING_JOB", "Trainer", "TrainingRunner", "describe_job"]


def _list_usage(job: TrainingRecord) -> Iterable[InstanceUsage]:
    if job.status in UNFINISHED:
        resources = job.request["ResourceConfig"]
        purpose = "spot training job usage" if job.request.get("EnableManagedSpotTraining") else "training job usage"
        yield InstanceUsage(resources["InstanceType"], purpose, int(resources.get("InstanceCount") or 1))


TRAINING_JOB: Final = ResourceKind(
    name="training-job",
    noun="training job",
    record=TrainingRecord,
    missing=build_job_not_found_error,
    taken=build_training_job_name_error,
    usage=_list_usage,
    log_group="/aws/sagemaker/TrainingJobs",
)

#: What Describe adds to a request that leaves it out. Source: API StoppingCondition ("The default value is 1 day"), and
#: what DescribeTrainingJob's answers hold in public notebooks of aws/amazon-sagemaker-examples.
_DEFAULTS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "StoppingCondition": {"MaxRuntimeInSeconds": 86400},
        "EnableNetworkIsolation": False,
        "EnableInterContainerTrafficEncryption": False,
        "EnableManagedSpotTraining": False,
    }
)


def _create(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["TrainingJobName"]
    arn = context.arn(TRAINING_JOB, name)
    tags = add_tags((), request.get("Tags") or (), arn=arn)
    _check_request(request)
    context.preconditions.check_role(context.region, request["RoleArn"])
    image, algorithm = _find_algorithm(context, request)
    if program_containers.find_program(image, context.images) is None:
        raise build_image_error(image, program_containers.ADVICE)
    for channel in request.get("InputDataConfig") or ():
        context.preconditions.check_input(context.region, channel["DataSource"]["S3DataSource"], request["RoleArn"])
    kept = {key: value for key, value in request.items() if key != "Tags"}
    job = training_states.create(
        name, arn, context.now(), request=kept, image=image, algorithm=algorithm or {}, tags=tags
    )
    context.create(TRAINING_JOB, job)
    return {"TrainingJobArn": arn}


def _check_request(request: Mapping[str, Any]) -> None:
    """Raise ApiError for what is not emulated; the sentences are ours."""
    resources = request.get("ResourceConfig") or {}
    if not request.get("AlgorithmSpecification") or not resources.get("InstanceType"):
        raise build_validation_error(
            "tritonforge's emulator runs training jobs with AlgorithmSpecification and ResourceConfig.InstanceType; it "
            "has no serverless jobs, no instance groups and no instance preferences."
        )
    refused = find_unsupported(TrainingJob.from_request(request))
    if refused:
        raise build_validation_error("; ".join(refused))


def _find_algorithm(context: RequestContext, request: Mapping[str, Any]) -> tuple[str, Mapping[str, Any] | None]:
    """Return the image that a job runs, and the specification of the algorithm that it names."""
    specification = request["AlgorithmSpecification"]
    name = specification.get("AlgorithmName")
    if not name:
        return str(specification["TrainingImage"]), None
    algorithm = context.find(ALGORITHM, name)
    if algorithm.status != "Completed" and not is_validation_job(algorithm, request):
        raise build_validation_error(
            f"Algorithm {algorithm.arn} is {algorithm.status}; a job needs one that is Completed."
        )  # ours
    if sentences := list(algorithms.check_job(request, algorithm.request)):
        raise build_validation_error("; ".join(sentences))
    training: Mapping[str, Any] = algorithm.request["TrainingSpecification"]
    return str(training["TrainingImage"]), training


def _stop(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return context.stop_job(TRAINING_JOB, request["TrainingJobName"], training_states.begin_stop)


def _delete(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    with context.store.lock:
        job = context.find(TRAINING_JOB, request["TrainingJobName"])
        if job.status in UNFINISHED:
            # API DeleteTrainingJob: only in a terminal state, ResourceInUse else. The sentence is ours.
            raise ApiError("ResourceInUse", f"The training job {job.arn} is {job.status}; stop it first.")
        context.remove(TRAINING_JOB, job.name)
    return {}


def _describe(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    return describe_job(context.find(TRAINING_JOB, request["TrainingJobName"]))


def describe_job(job: TrainingRecord) -> Mapping[str, Any]:
    """Build the response of DescribeTrainingJob."""
    specification = job.request["AlgorithmSpecification"]
    timed = training_states.count_seconds(job)
    answer: dict[str, Any] = {
        **_DEFAULTS,
        **job.request,
        # sagemaker-python-sdk, Estimator.attach, indexes it; also in the answers of aws/amazon-sagemaker-examples.
        "OutputDataConfig": {"KmsKeyId": "", **job.request["OutputDataConfig"]},
        # API AlgorithmSpecification: true where there are metric definitions, for images of one's own.
        "AlgorithmSpecification": {
            "EnableSageMakerMetricsTimeSeries": bool(specification.get("MetricDefinitions")),
            **specification,
        },
        **describe_record(job, "TrainingJob"),
        "ModelArtifacts": {"S3ModelArtifacts": TrainingJob.from_request(job.request).artifact_uri},
        "SecondaryStatus": job.secondary,
        "SecondaryStatusTransitions": training_states.list_transitions(job.phases),
    }
    if job.request.get("InputDataConfig"):
        answer["InputDataConfig"] = [_describe_channel(channel) for channel in job.request["InputDataConfig"]]
    later: Mapping[str, Any] = {
        "TrainingStartTime": job.began,
        "TrainingEndTime": job.ended,
        "FailureReason": job.failure or None,
        "FinalMetricDataList": list(job.metrics) or None,
        "TrainingTimeInSeconds": None if timed is None else timed[0],
        "BillableTimeInSeconds": None if timed is None else timed[1],
    }
    return answer | {name: value for name, value in later.items() if value is not None}


def _describe_channel(channel: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a channel with its defaults. Source: the service model (Channel, S3DataSource)."""
    source = channel["DataSource"]
    if source.get("S3DataSource"):
        source = {**source, "S3DataSource": {"S3DataDistributionType": "FullyReplicated", **source["S3DataSource"]}}
    return {"CompressionType": "None", "RecordWrapperType": "None", **channel, "DataSource": source}


def _list(context: RequestContext, request: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("WarmPoolStatusEquals", "TrainingPlanArnEquals"):
        if request.get(name):
            raise build_validation_error(
                f"{name}: tritonforge's emulator keeps no warm pools and no training plans."
            )  # ours
    return build_page(request, context.list(TRAINING_JOB), "TrainingJobSummaries", _summarize, order="Ascending")


def _summarize(job: TrainingRecord) -> Mapping[str, Any]:
    summary = {**describe_record(job, "TrainingJob"), "SecondaryStatus": job.secondary}
    return summary | ({} if job.ended is None else {"TrainingEndTime": job.ended})


OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        "CreateTrainingJob": _create,
        "DescribeTrainingJob": _describe,
        "ListTrainingJobs": _list,
        "StopTrainingJob": _stop,
        "DeleteTrainingJob": _delete,
    }
)

#: Phases of the engine in which instances are at work.
_AT_WORK: Final = frozenset({"Downloading", "Training", "Uploading"})

#: What becomes of a job at a time.
_End: TypeAlias = Callable[[TrainingRecord, float], TrainingRecord]


#: What runs a job: `run_training_job`, or what a test passes instead.
Trainer: TypeAlias = Callable[..., Outcome]


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
        self.services.flush_lines()
        return _choose_end(outcome)

    def _end(self, task: Task, end: _End) -> None:
        # A job that was asked to stop is Stopped, even if it came to its end by itself.
        stop = training_states.stop
        ended = self.change(task, lambda job, now: (stop if job.status == "Stopping" else end)(job, now))
        self.log_status(ended)


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
    """Return AWS's FailureReason: "AlgorithmError: <failure file>, exit code: 1"; a data failure's own sentence.

    Source: the answers quoted in aws/sagemaker-python-sdk and aws/amazon-sagemaker-examples issues ("AlgorithmError:
    framework error: ..., exit code: 1"). A program that a signal ended has 128 and its number, as a shell counts.
    """
    if outcome.failure.startswith("ClientError") or outcome.exit_code is None:
        return outcome.failure if outcome.failure.startswith("ClientError") else f"ClientError: {outcome.failure}"
    code = outcome.exit_code if outcome.exit_code >= 0 else 128 - outcome.exit_code
    tail = f", exit code: {code}"
    return f"AlgorithmError: {outcome.failure[: REASON_LENGTH - len('AlgorithmError: ') - len(tail)]}{tail}"


def _record_metrics(job: TrainingRecord, latest: Mapping[str, MetricValue]) -> TrainingRecord:
    for value in latest.values():
        job = training_states.record_metric(job, value.name, value.value, round(value.seconds, 3))
    return job
