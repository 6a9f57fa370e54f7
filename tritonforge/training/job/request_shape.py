"""The shape of a CreateTrainingJob request: one table per structure that reads and writes its members. No I/O.

A table maps the API's names of members to fields. None is a member that the request leaves out; members without an
entry are kept in the field ``carried``, so that what AWS adds to a structure later is passed on unchanged.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from tritonforge.errors import RequestError
from tritonforge.training.job.training_job import (
    AlgorithmSpecification,
    Channel,
    CheckpointConfig,
    InstanceGroup,
    MetricDefinition,
    Output,
    Resources,
    RetryStrategy,
    S3Data,
    ShuffleConfig,
    Source,
    StoppingCondition,
    Tag,
    TrainingJob,
)

__all__ = ["OPERATION", "Structure", "read_list"]

#: The operation that errors name.
OPERATION: Final = "CreateTrainingJob"

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Structure(Generic[_Value]):
    """A structure of the API as a class.

    Attributes:
        kind: the class, which has a field ``carried``.
        members: the API's names with those of the fields.
        required: the names of required members.
        structures: the members that are structures.
        lists: the members that are lists of structures.
    """

    kind: type[_Value]
    members: Mapping[str, str]
    required: tuple[str, ...] = ()
    structures: Mapping[str, Structure[Any]] = field(default_factory=dict)
    lists: Mapping[str, Structure[Any]] = field(default_factory=dict)

    def read(self, given: object, where: str = "") -> _Value:
        """Read a structure at a path of the request; raise RequestError if it has another shape."""
        if not isinstance(given, Mapping):
            raise RequestError(f"{OPERATION}: {where or 'the request'} must be a structure, found {given!r:.60}")
        left = dict(given)
        fields: dict[str, Any] = {}
        for name in self.required:
            if left.get(name) is None:
                raise RequestError(f"{OPERATION}: {join_path(where, name)} is missing")
        for name, target in self.members.items():
            value = left.pop(name, None)
            if value is None:
                continue
            here = join_path(where, name)
            if name in self.structures:
                value = self.structures[name].read(value, here)
            elif name in self.lists:
                value = read_list(self.lists[name], value, here)
            elif isinstance(value, list | tuple):
                value = tuple(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            fields[target] = value
        fields["carried"] = copy.deepcopy(left)
        return self.kind(**fields)

    def write(self, value: _Value) -> dict[str, Any]:
        """Write the members of a value in the order of the table, then those in ``carried``."""
        written: dict[str, Any] = {}
        for name, source in self.members.items():
            member = getattr(value, source)
            if member is None:
                continue
            if name in self.structures:
                member = self.structures[name].write(member)
            elif name in self.lists:
                member = [self.lists[name].write(item) for item in member]
            elif isinstance(member, tuple):
                member = list(member)
            elif isinstance(member, Mapping):
                member = dict(member)
            written[name] = member
        carried: Mapping[str, Any] = getattr(value, "carried")  # noqa: B009 - mypy cannot check fields of a type variable
        return written | copy.deepcopy(dict(carried))


def read_list(structure: Structure[_Value], given: object, where: str) -> tuple[_Value, ...]:
    """Read a list of structures; raise RequestError if it is not a list."""
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise RequestError(f"{OPERATION}: {where} must be a list, found {given!r:.60}")
    return tuple(structure.read(item, f"{where}[{index}]") for index, item in enumerate(given))


def join_path(where: str, name: str) -> str:
    """Return the path of a member as boto3 writes it: ``InputDataConfig[0].ChannelName``."""
    return f"{where}.{name}" if where else name


_S3_DATA: Final = Structure(
    S3Data,
    {
        "S3DataType": "data_type",
        "S3Uri": "uri",
        "S3DataDistributionType": "distribution",
        "AttributeNames": "attribute_names",
        "InstanceGroupNames": "instance_group_names",
    },
    required=("S3DataType", "S3Uri"),
)


CHANNEL: Final = Structure(
    Channel,
    {
        "ChannelName": "name",
        "DataSource": "source",
        "ContentType": "content_type",
        "CompressionType": "compression_type",
        "RecordWrapperType": "record_wrapper_type",
        "InputMode": "input_mode",
        "ShuffleConfig": "shuffle",
    },
    required=("ChannelName", "DataSource"),
    structures={
        "DataSource": Structure(Source, {"S3DataSource": "s3"}, structures={"S3DataSource": _S3_DATA}),
        "ShuffleConfig": Structure(ShuffleConfig, {"Seed": "seed"}, required=("Seed",)),
    },
)

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
        "Tags": _TAG,
    },
)


def read_request(request: Mapping[str, Any]) -> TrainingJob:
    """Read a CreateTrainingJob request. Raises RequestError where a member is missing or has another shape."""
    return _JOB.read(request)


def write_request(job: TrainingJob) -> dict[str, Any]:
    """Build the CreateTrainingJob request of a job; a name or a role that the job does not have is left out."""
    return {name: value for name, value in _JOB.write(job).items() if value != "" or name not in _NAMES}
