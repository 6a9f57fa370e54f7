"""A training job as a value: every field of CreateTrainingJob. This module does no I/O.

Fields keep the API's names in snake_case, and None is a member that the request leaves out, so that
``TrainingJob.from_request(request).to_request() == request``; members without a field of their own are carried. For a
job on this machine the addresses may be paths; `problems` tells what the API's schema cannot say.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from tritonforge.training.job.channel import CHANNEL, Channel, InputMode
from tritonforge.training.job.members import Structure

__all__ = [
    "CHECKPOINTS",
    "DAY",
    "AlgorithmSpecification",
    "CheckpointConfig",
    "InstanceGroup",
    "MetricDefinition",
    "ModelCompression",
    "Output",
    "Resources",
    "RetryStrategy",
    "StoppingCondition",
    "Tag",
    "TrainingJob",
]

ModelCompression: TypeAlias = Literal["GZIP", "NONE"]

#: Source: API_CheckpointConfig, `LocalPath`.
CHECKPOINTS: Final = "/opt/ml/checkpoints"

#: Seconds that a job may run where its stopping condition says nothing. Source: API_StoppingCondition.
DAY: Final = 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricDefinition:
    """A metric: its name, and the expression whose first group is its value in a line of the log."""

    name: str
    regex: str
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class AlgorithmSpecification:
    """What is run (an image, or an algorithm by name), how its input comes, and the metrics that its log has."""

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
    """Below which address the model goes, as an archive (GZIP, the default) or as files (NONE)."""

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
    """Seconds: of running (default one day), of running and waiting for spot capacity, of pending."""

    max_runtime_in_seconds: int | None = None
    max_wait_time_in_seconds: int | None = None
    max_pending_time_in_seconds: int | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """Where checkpoints are kept, and which folder of the container they are (default /opt/ml/checkpoints)."""

    uri: str
    local_path: str | None = None
    carried: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryStrategy:
    """How often a job is tried again that SageMaker's own failure ended."""

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
    """A training job. ``name``, ``role_arn`` and ``resources`` are SageMaker's, a job on this machine needs none."""

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
        """The job of a CreateTrainingJob request; raises RequestError where a member is missing or of another shape."""
        return _JOB.read(request)

    def to_request(self) -> dict[str, Any]:
        """The CreateTrainingJob request of this job."""
        request = _JOB.write(self)
        return {name: value for name, value in request.items() if value != "" or name not in _NAMES}

    def problems(self) -> tuple[str, ...]:
        """What the documentation forbids and the API's schema cannot say, a sentence each; empty when all is well."""
        from tritonforge.training.job.rules import problems  # it reads this class

        return problems(self)

    def mode(self, channel: Channel) -> InputMode:
        """How a channel's data come: its own mode, or the job's. Source: API_Channel, `InputMode`."""
        return channel.input_mode or ("File" if self.algorithm is None else self.algorithm.training_input_mode)

    @property
    def max_runtime(self) -> int:
        """Seconds that the program may run."""
        condition = self.stopping_condition
        return (
            DAY if condition is None or condition.max_runtime_in_seconds is None else condition.max_runtime_in_seconds
        )

    @property
    def artifact_uri(self) -> str:
        """Where the model goes: `{S3OutputPath}/{name}/output/model.tar.gz`, or the prefix of its files.

        Source: API_ModelArtifacts; SageMaker developer guide, "How Amazon SageMaker Processes Training Output".
        """
        files = self.output.compression_type == "NONE"
        return f"{self.output_folder}/{'model/' if files else 'model.tar.gz'}"

    @property
    def output_folder(self) -> str:
        """Below what the job's outputs lie, without a slash at its end."""
        return "/".join(each for each in (self.output.uri.rstrip("/"), self.name, "output") if each)


#: Members that the API requires, and a job on this machine leaves empty.
_NAMES: Final = ("TrainingJobName", "RoleArn")

_METRIC: Final = Structure(MetricDefinition, {"Name": "name", "Regex": "regex"}, required=("Name", "Regex"))

_TAG: Final = Structure(Tag, {"Key": "key", "Value": "value"}, required=("Key", "Value"))

_GROUP: Final = Structure(
    InstanceGroup,
    {
        "InstanceType": "instance_type",
        "InstanceCount": "instance_count",
        "InstanceGroupName": "instance_group_name",
    },
    required=("InstanceType", "InstanceCount", "InstanceGroupName"),
)

_ALGORITHM: Final = Structure(
    AlgorithmSpecification,
    {
        "TrainingImage": "training_image",
        "AlgorithmName": "algorithm_name",
        "TrainingInputMode": "training_input_mode",
        "MetricDefinitions": "metric_definitions",
        "EnableSageMakerMetricsTimeSeries": "enable_sagemaker_metrics_time_series",
        "ContainerEntrypoint": "container_entrypoint",
        "ContainerArguments": "container_arguments",
    },
    required=("TrainingInputMode",),
    lists={"MetricDefinitions": _METRIC},
)

_RESOURCES: Final = Structure(
    Resources,
    {
        "InstanceType": "instance_type",
        "InstanceCount": "instance_count",
        "VolumeSizeInGB": "volume_size_in_gb",
        "VolumeKmsKeyId": "volume_kms_key_id",
        "KeepAlivePeriodInSeconds": "keep_alive_period_in_seconds",
        "InstanceGroups": "instance_groups",
    },
    lists={"InstanceGroups": _GROUP},
)

_STOPPING: Final = Structure(
    StoppingCondition,
    {
        "MaxRuntimeInSeconds": "max_runtime_in_seconds",
        "MaxWaitTimeInSeconds": "max_wait_time_in_seconds",
        "MaxPendingTimeInSeconds": "max_pending_time_in_seconds",
    },
)

_JOB: Final = Structure(
    TrainingJob,
    {
        "TrainingJobName": "name",
        "HyperParameters": "hyperparameters",
        "AlgorithmSpecification": "algorithm",
        "RoleArn": "role_arn",
        "InputDataConfig": "channels",
        "OutputDataConfig": "output",
        "ResourceConfig": "resources",
        "StoppingCondition": "stopping_condition",
        "CheckpointConfig": "checkpoint_config",
        "EnableManagedSpotTraining": "enable_managed_spot_training",
        "EnableNetworkIsolation": "enable_network_isolation",
        "Environment": "environment",
        "Tags": "tags",
        "RetryStrategy": "retry_strategy",
    },
    required=("OutputDataConfig",),
    structures={
        "AlgorithmSpecification": _ALGORITHM,
        "OutputDataConfig": Structure(
            Output,
            {"S3OutputPath": "uri", "CompressionType": "compression_type", "KmsKeyId": "kms_key_id"},
            required=("S3OutputPath",),
        ),
        "ResourceConfig": _RESOURCES,
        "StoppingCondition": _STOPPING,
        "CheckpointConfig": Structure(
            CheckpointConfig, {"S3Uri": "uri", "LocalPath": "local_path"}, required=("S3Uri",)
        ),
        "RetryStrategy": Structure(
            RetryStrategy, {"MaximumRetryAttempts": "maximum_retry_attempts"}, required=("MaximumRetryAttempts",)
        ),
    },
    lists={
        "InputDataConfig": CHANNEL,
        "Tags": Structure(Tag, {"Key": "key", "Value": "value"}, required=("Key", "Value")),
    },
)
