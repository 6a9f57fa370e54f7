"""Training on SageMaker: from a job and its settings to the plan, the training job, its metrics, and its model."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import DefinitionError, DeploymentError, InputError, TritonForgeError
from tritonforge.sagemaker.client.session import Session
from tritonforge.sagemaker.client.store import Store
from tritonforge.sagemaker.endpoints.observation import find_role_arn
from tritonforge.sagemaker.jobs.job_data import (
    LocalChannel,
    find_bucket_name,
    observe_data,
    read_local_channels,
    upload_part,
)
from tritonforge.sagemaker.jobs.kinds import TRAINING, build_job_name
from tritonforge.sagemaker.jobs.lifecycle import SageMakerJob
from tritonforge.sagemaker.jobs.training_plan import build_draft_plan, build_training_plan, is_local
from tritonforge.sagemaker.plans.executor import check_plan, count_bytes
from tritonforge.sagemaker.plans.plan import Plan, Progress, Step
from tritonforge.training.algorithm.declaration import Algorithm, JobChannel
from tritonforge.training.job.engine import MetricReader
from tritonforge.training.job.request import check_metric_regex
from tritonforge.training.job.training_job import (
    AlgorithmSpecification,
    MetricDefinition,
    Resources,
    StoppingCondition,
    Tag,
    TrainingJob,
)

__all__ = [
    "INSTANCE_TYPE",
    "VOLUME_SIZE",
    "SageMakerSettings",
    "TrainingResult",
    "TrainingRun",
    "check_against_declaration",
    "is_image",
]

#: The default instance type, and the GB of its disk, which is the default of SageMaker's own SDK.
INSTANCE_TYPE: Final = "ml.m5.xlarge"
VOLUME_SIZE: Final = 30

#: Lines at the end of the log that a result keeps.
_KEPT_LINES: Final = 20

#: The model's file in the directory to which it is downloaded.
_MODEL: Final = "model.tar.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class SageMakerSettings:
    """The settings that SageMaker requires in addition to a job. None means the value of the job, or the default.

    ``image`` is the URI of the training image, ``algorithm`` the name or ARN of an algorithm on SageMaker: one of the
    two. ``role`` is an IAM role by ARN or name.
    """

    name: str | None = None
    role: str | None = None
    image: str | None = None
    algorithm: str | None = None
    instance_type: str | None = None
    instance_count: int | None = None
    volume_size_in_gb: int | None = None
    max_wait_time_in_seconds: int | None = None
    spot: bool = False
    network_isolation: bool = False
    tags: Mapping[str, str] | None = None

    def apply_to(self, job: TrainingJob, declared: Algorithm | None) -> TrainingJob:
        """Return the job with these settings; metrics and instance type default to those that its program declares.

        Raises:
            DefinitionError: the role, or both image and algorithm, are missing.
        """
        role = self.role or job.role_arn
        if not role:
            raise DefinitionError("the IAM role of the job is missing. Give its name or ARN: --role")
        condition = job.stopping_condition or StoppingCondition()
        tags = (*(job.tags or ()), *(Tag(key=key, value=value) for key, value in (self.tags or {}).items()))
        return replace(
            job,
            name=self.name or job.name or build_job_name("training", dt.datetime.now(dt.timezone.utc)),
            role_arn=role,
            algorithm=self._build_algorithm(job, declared),
            resources=self._build_resources(job, declared),
            enable_managed_spot_training=self.spot or job.enable_managed_spot_training,
            enable_network_isolation=self.network_isolation or job.enable_network_isolation,
            tags=tags or None,
            # AWS's own default is written out, so that the plan shows for how long is paid at most.
            stopping_condition=replace(
                condition,
                max_runtime_in_seconds=job.max_runtime,
                max_wait_time_in_seconds=self.max_wait_time_in_seconds or condition.max_wait_time_in_seconds,
            ),
        )

    def _build_algorithm(self, job: TrainingJob, declared: Algorithm | None) -> AlgorithmSpecification:
        algorithm = job.algorithm or AlgorithmSpecification(training_input_mode="File")
        if self.image is not None or self.algorithm is not None:
            algorithm = replace(algorithm, training_image=self.image, algorithm_name=self.algorithm)
        image = algorithm.training_image
        if algorithm.algorithm_name is None and not is_image(image or ""):
            raise DefinitionError(
                f"{image or 'the job'}: not an image that SageMaker can run. Give the image with the program "
                "(--image-uri URI) or a published algorithm (--algorithm NAME)"
            )
        if declared is None or algorithm.metric_definitions is not None or algorithm.algorithm_name is not None:
            return algorithm  # an algorithm on SageMaker has its own metrics
        metrics = tuple(MetricDefinition(name=metric.name, regex=metric.regex) for metric in declared.metrics)
        return replace(algorithm, metric_definitions=metrics or None)

    def _build_resources(self, job: TrainingJob, declared: Algorithm | None) -> Resources:
        resources = job.resources or Resources()
        has_groups = resources.instance_groups is not None or "InstancePreferences" in resources.carried
        if has_groups and self.instance_type is None:
            return resources
        types = () if declared is None else declared.training_instance_types
        return replace(
            resources,
            instance_type=self.instance_type or resources.instance_type or (types[0] if types else INSTANCE_TYPE),
            instance_count=self.instance_count or resources.instance_count or 1,
            volume_size_in_gb=self.volume_size_in_gb or resources.volume_size_in_gb or VOLUME_SIZE,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """The end of a training job.

    Attributes:
        status: AWS's status; ``secondary_status`` likewise.
        reason: why the job did not complete, in AWS's words.
        metrics: the last value of each metric.
        lines: the last lines of the log.
        artifact: the address of the model, None if there is no model.
        seconds: the training time; ``billable_seconds`` is less with spot instances.
    """

    name: str
    arn: str
    status: str
    secondary_status: str
    reason: str
    metrics: Mapping[str, float]
    lines: tuple[str, ...]
    artifact: str | None
    seconds: float
    billable_seconds: float

    @property
    def has_exceeded_time(self) -> bool:
        """True if the job was stopped by one of its own time limits."""
        return self.secondary_status in ("MaxRuntimeExceeded", "MaxWaitTimeExceeded")


class TrainingRun(SageMakerJob[TrainingResult]):
    r"""A training job on SageMaker. Its local data are uploaded first; an output directory gets the model.

    Args:
        job: the job; data and output may be paths of this machine.
        session: calls AWS.
        settings: image, role and instances, as far as the job does not have them.
        declared: what the job's program declares, to check hyperparameters and channels before anything is paid for.
        bucket: the bucket of local data, by default SageMaker's own of the region.
        progress: shows the progress.

    Raises:
        DefinitionError, InputError, RequestError: the job is invalid. Nothing has been called.

    >>> with TrainingRun(job, session=Session(), settings=settings) as run:  # doctest: +SKIP
    ...     print("\n".join(render(run.plan())))
    ...     run.submit()
    ...     run.watch(on_line=print)
    ...     print(run.result().metrics, run.download())
    """

    kind = TRAINING
    _waits_for_log = True

    def __init__(
        self,
        job: TrainingJob,
        *,
        session: Session,
        settings: SageMakerSettings | None = None,
        declared: Algorithm | None = None,
        bucket: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(session, progress=progress)
        #: The local directory of the job's output, None if its output is in S3.
        self.target = Path(job.output.uri) if job.output.uri and is_local(job.output.uri) else None
        if self.target is not None:
            job = replace(job, output=replace(job.output, uri=""))
        self.job = (settings or SageMakerSettings()).apply_to(job, declared)
        if declared is not None:
            check_against_declaration(self.job, declared)
        # Reports errors before AWS is called and data are read. `plan` checks the requests that are sent: these have
        # the role, the bucket and the keys that are not known yet.
        check_plan(build_draft_plan(self.job))
        self._bucket = bucket
        self._channels: Mapping[str, LocalChannel] = {}
        self._log = _JobLog()

    def _build_plan(self) -> Plan:
        job = replace(self.job, role_arn=find_role_arn(self.session, self.job.role_arn))
        bucket = find_bucket_name(self.session, self._bucket)
        self.progress.begin("read the local data")
        self._channels = self._files.enter_context(read_local_channels(job, bucket=bucket))
        self.progress.begin("read the state on AWS")
        contents = {name: channel.content for name, channel in self._channels.items()}
        observed = observe_data(self.session, contents, bucket=self._bucket)
        plan, self.job = build_training_plan(job, contents, observed)
        return plan

    def _upload(self, step: Step) -> None:
        upload_part(step, self.session, self._channels, account=self.plan().account, progress=self.progress)

    def _read_description(self, description: Mapping[str, Any], on_phase: Callable[[str, str], None]) -> str:
        return self._log.read_description(description, on_phase)

    def _read_line(self, line: str) -> None:
        self._log.read_line(line)

    def _read_result(self, description: Mapping[str, Any]) -> TrainingResult:
        self._log.read_final_metrics(description)
        status, secondary = str(description["TrainingJobStatus"]), str(description.get("SecondaryStatus", ""))
        return TrainingResult(
            name=self.name,
            arn=str(description["TrainingJobArn"]),
            status=status,
            secondary_status=secondary,
            reason=_read_reason(description, status, secondary),
            metrics=dict(self._log.metrics),
            lines=tuple(self._log.lines),
            artifact=self._find_artifact(description, status),
            seconds=float(description.get("TrainingTimeInSeconds") or 0.0),
            billable_seconds=float(description.get("BillableTimeInSeconds") or 0.0),
        )

    def _find_artifact(self, description: Mapping[str, Any], status: str) -> str | None:
        """Return the address of the model. AWS returns it from the start; a stopped job may have left none."""
        uri = str((description.get("ModelArtifacts") or {}).get("S3ModelArtifacts") or "")
        if status == "Failed" or not uri:
            return None
        if status == "Stopped":
            with contextlib.suppress(TritonForgeError):  # without the permission to look, the model may exist
                if next(iter(Store(self.session).list_objects(uri)), None) is None:
                    return None
        return uri

    def download(self) -> Path | None:
        """Download the model to the local output directory: an archive, or the files that were left uncompressed.

        Return the path, or None if there is no model or no local output directory.

        Raises:
            DeploymentError: the model does not exist.
            ConnectError, EncodeError: it cannot be read or written; a file appears when it is complete.
        """
        artifact = self.result().artifact
        if self.target is None or artifact is None:
            return None
        self.progress.begin(f"download {artifact}")
        store = Store(self.session)
        if not artifact.endswith("/"):
            archive = store.find(artifact)
            if archive is None:
                raise DeploymentError(f"{artifact}: no such object. The program left no model, or it was removed since")
            store.download(artifact, self.target / _MODEL, on_progress=count_bytes(self.progress, archive.size))
            return self.target / _MODEL
        objects = [stored for stored in store.list_objects(artifact) if not stored.uri.endswith("/")]
        if not objects:
            raise DeploymentError(f"{artifact}: no objects. The program left no model, or it was removed since")
        on_bytes = count_bytes(self.progress, sum(stored.size for stored in objects))
        for stored in objects:
            path = self.target / stored.uri.removeprefix(artifact)
            if ".." in path.parts:
                raise DeploymentError(f"{stored.uri}: not downloaded, as it would lie outside of {self.target}")
            store.download(stored.uri, path, on_progress=on_bytes)
        return self.target


class _JobLog:
    """The part of a job that was read so far: its phases, the end of its log, and the last value of each metric."""

    def __init__(self) -> None:
        self._transitions: dict[int, tuple[str, str]] = {}
        self._reader: MetricReader | None = None
        self.metrics: dict[str, float] = {}
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)

    def read_line(self, line: str) -> None:
        """Take a line of the log and the metrics in it."""
        self.lines.append(line)
        for value in () if self._reader is None else self._reader.read(line, 0.0):
            self.metrics[value.name] = value.value

    def read_description(self, description: Mapping[str, Any], on_phase: Callable[[str, str], None]) -> str:
        """Take a description and return what is shown after the job's status."""
        if self._reader is None:
            definitions = (description.get("AlgorithmSpecification") or {}).get("MetricDefinitions") or ()
            metrics = [(str(definition["Name"]), str(definition["Regex"])) for definition in definitions]
            self._reader = MetricReader(
                [MetricDefinition(name=name, regex=regex) for name, regex in metrics if not check_metric_regex(regex)]
            )
        for index, transition in enumerate(description.get("SecondaryStatusTransitions") or ()):
            phase = (str(transition.get("Status", "")), str(transition.get("StatusMessage", "")))
            if self._transitions.get(index) != phase:
                self._transitions[index] = phase
                on_phase(*phase)
        if not self._reader.last:  # the log has no values, as that of AWS's own algorithms
            self.read_final_metrics(description)
        values = ", ".join(f"{name} {value:g}" for name, value in self.metrics.items())
        return "".join(f", {part}" for part in (str(description.get("SecondaryStatus", "")), values) if part)

    def read_final_metrics(self, description: Mapping[str, Any]) -> None:
        """Take the metrics that AWS keeps, which override those of the log."""
        for metric in description.get("FinalMetricDataList") or ():
            self.metrics[str(metric.get("MetricName", ""))] = float(metric.get("Value", 0.0))


def is_image(text: str) -> bool:
    """Return True if a text is the URI of an image: its first part is a registry, or it has a tag or a digest.

    >>> is_image("123456789012.dkr.ecr.eu-west-1.amazonaws.com/learner:1"), is_image("repos/detector")
    (True, False)
    """
    registry, slash, _ = text.partition("/")
    has_tag = ":" in text.rpartition("/")[2]
    return not text.startswith((".", "/", "~")) and (has_tag or (bool(slash) and "." in registry))


@dataclass(frozen=True, slots=True)
class _Channel:
    name: str
    mode: str
    content_type: str


def check_against_declaration(job: TrainingJob, declared: Algorithm) -> None:
    """Check the hyperparameters and the channels of a job against what its program declares.

    Raises:
        InputError: with everything that the program would reject when it runs.
    """
    channels: list[JobChannel] = [
        _Channel(channel.name, job.mode(channel), channel.content_type or "") for channel in job.channels or ()
    ]
    errors = []
    for check_part in (lambda: declared.read(job.hyperparameters or {}), lambda: declared.check(channels)):
        try:
            check_part()
        except InputError as error:  # noqa: PERF203 - both are reported
            errors.append(str(error))
    if errors:
        raise InputError("; ".join(errors))


def _read_reason(description: Mapping[str, Any], status: str, secondary: str) -> str:
    """Return why a job did not complete; for one stopped by its own limits this is the last message."""
    if status == "Failed":
        return str(description.get("FailureReason", ""))
    if status == "Stopped" and secondary != "Stopped":
        last: Mapping[str, Any] = (description.get("SecondaryStatusTransitions") or ({},))[-1]
        return f"{secondary}: {last.get('StatusMessage', '')}".rstrip(": ")
    return ""
