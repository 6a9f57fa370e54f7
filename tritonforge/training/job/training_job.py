"""A training job and its outcome as values: every field of CreateTrainingJob. No I/O.

Fields have the API's names in snake_case. None is a member that the request leaves out, so that
``TrainingJob.from_request(request).to_request() == request``; members without a field are kept in ``carried``. For a
job on this machine addresses may be paths. `TrainingJob.problems` checks what the API's schema cannot express.

Sources: API_CreateTrainingJob, API_Channel, API_S3DataSource, API_ShuffleConfig, API_DescribeTrainingJob.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

__all__ = [
    "CHECKPOINT_DIR", "DEFAULT_RUNTIME", "AlgorithmSpecification", "Channel",
    "CheckpointConfig", "CompressionType", "DataType", "Distribution", "InputMode", "InstanceGroup",
    "MetricDefinition", "MetricValue", "ModelCompression", "Outcome", "Output", "Phase", "RecordWrapperType",
    "Resources", "RetryStrategy", "S3Data", "ShuffleConfig", "Source", "State", "StopReason", "StoppingCondition",
    "Tag", "TrainingJob",
]  # fmt: skip

InputMode: TypeAlias = Literal["Pipe", "File", "FastFile"]
#: Of the API's values these three are data of a training job; Converse is for jobs without a container.
DataType: TypeAlias = Literal["S3Prefix", "ManifestFile", "AugmentedManifestFile"]
Distribution: TypeAlias = Literal["FullyReplicated", "ShardedByS3Key"]
CompressionType: TypeAlias = Literal["None", "Gzip"]
RecordWrapperType: TypeAlias = Literal["None", "RecordIO"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleConfig:
    """The seed of a channel's order; in Pipe mode every epoch has another order."""

    seed: int
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Data:
    """Objects: all below a prefix, those of a manifest, or the ``attribute_names`` of an augmented manifest."""

    uri: str
    data_type: DataType = "S3Prefix"
    distribution: Distribution | None = None
    attribute_names: tuple[str, ...] | None = None
    instance_group_names: tuple[str, ...] | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a channel's data are: ``s3``, or another store in ``carried`` (a file system, a data set)."""

    s3: S3Data | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One named input. ``input_mode`` None is the job's mode."""

    name: str
    source: Source
    content_type: str | None = None
    compression_type: CompressionType | None = None
    record_wrapper_type: RecordWrapperType | None = None
    input_mode: InputMode | None = None
    shuffle: ShuffleConfig | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)

    @property
    def data(self) -> S3Data | None:
        """The S3 data of the channel, None for another store."""
        return self.source.s3


ModelCompression: TypeAlias = Literal["GZIP", "NONE"]

#: Source: API_CheckpointConfig, `LocalPath`.
CHECKPOINT_DIR: Final = "/opt/ml/checkpoints"

#: Seconds that a job may run by default. Source: API_StoppingCondition.
DEFAULT_RUNTIME: Final = 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDefinition:
    """A metric: its name, and the regex whose first group is its value in a line of the log."""

    name: str
    regex: str
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmSpecification:
    """The image or the named algorithm, its input mode, and the metrics in its log."""

    training_input_mode: InputMode
    training_image: str | None = None
    algorithm_name: str | None = None
    metric_definitions: tuple[MetricDefinition, ...] | None = None
    enable_sagemaker_metrics_time_series: bool | None = None
    container_entrypoint: tuple[str, ...] | None = None
    container_arguments: tuple[str, ...] | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """The address for the model, as an archive (GZIP, the default) or as files (NONE)."""

    uri: str
    compression_type: ModelCompression | None = None
    kms_key_id: str | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceGroup:
    """Instances of one type in a cluster of several."""

    instance_type: str
    instance_count: int
    instance_group_name: str
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """SageMaker's machines for the job."""

    instance_type: str | None = None
    instance_count: int | None = None
    volume_size_in_gb: int | None = None
    volume_kms_key_id: str | None = None
    keep_alive_period_in_seconds: int | None = None
    instance_groups: tuple[InstanceGroup, ...] | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoppingCondition:
    """Limits in seconds: of running (default one day), of running and waiting for spot capacity, of pending."""

    max_runtime_in_seconds: int | None = None
    max_wait_time_in_seconds: int | None = None
    max_pending_time_in_seconds: int | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """The address for checkpoints, and their folder in the container (default /opt/ml/checkpoints)."""

    uri: str
    local_path: str | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryStrategy:
    """The number of retries after an internal error of SageMaker."""

    maximum_retry_attempts: int
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A tag of the job."""

    key: str
    value: str
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """A training job. ``name``, ``role_arn`` and ``resources`` are required by SageMaker, not on this machine."""

    name: str = ""
    role_arn: str = ""
    algorithm: AlgorithmSpecification | None = None
    hyperparameters: Mapping[str, str] | None = None
    channels: tuple[Channel, ...] | None = None
    output: Output
    resources: Resources | None = None
    stopping_condition: StoppingCondition | None = None
    checkpoint_config: CheckpointConfig | None = None
    enable_managed_spot_training: bool | None = None
    enable_network_isolation: bool | None = None
    environment: Mapping[str, str] | None = None
    tags: tuple[Tag, ...] | None = None
    retry_strategy: RetryStrategy | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_request(cls, request: Mapping[str, Any]) -> TrainingJob:
        """Read a CreateTrainingJob request; raise RequestError for a member that is missing or has another shape."""
        from tritonforge.training.job.request import read_request  # it reads this class

        return read_request(request)

    def to_request(self) -> dict[str, Any]:
        """Build the CreateTrainingJob request of this job."""
        from tritonforge.training.job.request import write_request  # it reads this class

        return write_request(self)

    def problems(self) -> tuple[str, ...]:
        """Return what the documentation forbids and the API's schema allows, one sentence each."""
        from tritonforge.training.job.request import find_problems  # it reads this class

        return find_problems(self)

    def mode(self, channel: Channel) -> InputMode:
        """Return the input mode of a channel: its own, or the job's. Source: API_Channel, `InputMode`."""
        return channel.input_mode or ("File" if self.algorithm is None else self.algorithm.training_input_mode)

    @property
    def max_runtime(self) -> int:
        """The seconds that the program may run."""
        condition = self.stopping_condition
        return (
            DEFAULT_RUNTIME
            if condition is None or condition.max_runtime_in_seconds is None
            else condition.max_runtime_in_seconds
        )

    @property
    def artifact_uri(self) -> str:
        """The address of the model: `{S3OutputPath}/{name}/output/model.tar.gz`, or the prefix of its files.

        Source: API_ModelArtifacts; SageMaker developer guide, "How Amazon SageMaker Processes Training Output".
        """
        files = self.output.compression_type == "NONE"
        return f"{self.output_folder}/{'model/' if files else 'model.tar.gz'}"

    @property
    def output_folder(self) -> str:
        """The address of the job's outputs, without a slash at its end."""
        return "/".join(part for part in (self.output.uri.rstrip("/"), self.name, "output") if part)


#: As `TrainingJobStatus` at the end of a job.
State: TypeAlias = Literal["Completed", "Failed", "Stopped"]

#: As a job's `SecondaryStatus` while it runs. Source: API_DescribeTrainingJob.
Phase: TypeAlias = Literal["Starting", "Downloading", "Training", "Stopping", "Uploading"]

#: Why a job was stopped: on request, or at the end of its time (`SecondaryStatus` MaxRuntimeExceeded).
StopReason: TypeAlias = Literal["", "stop", "MaxRuntimeExceeded"]


@dataclass(frozen=True, slots=True)
class MetricValue:
    """A metric's value in a line of the log; ``seconds`` is when the line was read, since 1970."""

    name: str
    value: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The end of a training job.

    Attributes:
        state: Completed, Failed or Stopped.
        failure: one sentence, empty unless ``state`` is Failed: the failure file's first 1024 characters, or
            ``ClientError: ...`` for invalid data.
        stop_reason: why the job was stopped, empty if it was not.
        exit_code: the program's, 128 + n if signal n ended it, None if it was not started.
        seconds: how long it ran.
        metrics: the last value of each metric.
        artifact: the address of the model, None without one.
        output_data: the address of the other output, None without any.
        notes: sentences that the user must see.
    """

    state: State
    failure: str = ""
    stop_reason: StopReason = ""
    exit_code: int | None = None
    seconds: float = 0.0
    metrics: Mapping[str, MetricValue] = field(default_factory=dict)
    artifact: str | None = None
    output_data: str | None = None
    notes: tuple[str, ...] = ()
