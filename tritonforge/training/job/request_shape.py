"""The shape of a CreateTrainingJob request: structures of the API are read to dataclasses and written again. No I/O.

A member has the name of its field in CamelCase, unless its structure names it otherwise. None is a member that the
request leaves out; members without a field are kept in the field ``carried``, so that what AWS adds to a structure
later is passed on unchanged.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
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

__all__ = ["OPERATION", "Structure", "join_path", "read_list", "read_request", "write_request"]

#: The operation that errors name.
OPERATION: Final = "CreateTrainingJob"

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Structure(Generic[_Value]):
    """A structure of the API as a dataclass, which has a field ``carried``.

    Attributes:
        kind: the class; fields without a default are required members.
        names: the API's names of fields, where they differ from the field's name in CamelCase.
        required: fields with a default that the API requires.
        structures: the fields that are structures.
        lists: the fields that are lists of structures.
    """

    kind: type[_Value]
    names: Mapping[str, str] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    structures: Mapping[str, Structure[Any]] = field(default_factory=dict)
    lists: Mapping[str, Structure[Any]] = field(default_factory=dict)

    def members(self) -> dict[str, str]:
        """Return the fields with the API's names of their members."""
        declared = (member.name for member in fields(self.kind) if member.name != "carried")  # type: ignore[arg-type]
        return {name: self.names.get(name) or "".join(map(str.capitalize, name.split("_"))) for name in declared}

    def read(self, given: object, where: str = "") -> _Value:
        """Read a structure at a path of the request; raise RequestError if it has another shape."""
        if not isinstance(given, Mapping):
            raise RequestError(f"{OPERATION}: {where or 'the request'}: expected a structure, got {given!r:.60}")
        left = dict(given)
        members = self.members()
        for member in fields(self.kind):  # type: ignore[arg-type]  # a dataclass, which mypy cannot express
            has_default = member.default is not MISSING or member.default_factory is not MISSING
            if (not has_default or member.name in self.required) and left.get(members[member.name]) is None:
                raise RequestError(f"{OPERATION}: {join_path(where, members[member.name])} is missing")
        values: dict[str, Any] = {}
        for name, member_name in members.items():
            value = left.pop(member_name, None)
            if value is None:
                continue
            here = join_path(where, member_name)
            if name in self.structures:
                value = self.structures[name].read(value, here)
            elif name in self.lists:
                value = read_list(self.lists[name], value, here)
            elif isinstance(value, list | tuple):
                value = tuple(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            values[name] = value
        values["carried"] = copy.deepcopy(left)
        return self.kind(**values)

    def write(self, value: _Value) -> dict[str, Any]:
        """Write the members of a value in the order of its fields, then those in ``carried``."""
        written: dict[str, Any] = {}
        for name, member_name in self.members().items():
            member = getattr(value, name)
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
            written[member_name] = member
        carried: Mapping[str, Any] = getattr(value, "carried")  # noqa: B009 - mypy cannot check fields of a type variable
        return written | copy.deepcopy(dict(carried))


def read_list(structure: Structure[_Value], given: object, where: str) -> tuple[_Value, ...]:
    """Read a list of structures; raise RequestError if it is not a list."""
    if not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise RequestError(f"{OPERATION}: {where}: expected a list, got {given!r:.60}")
    return tuple(structure.read(item, f"{where}[{index}]") for index, item in enumerate(given))


def join_path(where: str, name: str) -> str:
    """Return the path of a member as boto3 writes it: ``InputDataConfig[0].ChannelName``."""
    return f"{where}.{name}" if where else name


_S3_DATA: Final = Structure(
    S3Data,
    {"data_type": "S3DataType", "uri": "S3Uri", "distribution": "S3DataDistributionType"},
    required=("data_type",),
)

_CHANNEL: Final = Structure(
    Channel,
    {"name": "ChannelName", "source": "DataSource", "shuffle": "ShuffleConfig"},
    structures={
        "source": Structure(Source, {"s3": "S3DataSource"}, structures={"s3": _S3_DATA}),
        "shuffle": Structure(ShuffleConfig),
    },
)

_ALGORITHM: Final = Structure(
    AlgorithmSpecification,
    {"enable_sagemaker_metrics_time_series": "EnableSageMakerMetricsTimeSeries"},
    lists={"metric_definitions": Structure(MetricDefinition)},
)

_JOB: Final = Structure(
    TrainingJob,
    {
        "name": "TrainingJobName",
        "algorithm": "AlgorithmSpecification",
        "hyperparameters": "HyperParameters",
        "channels": "InputDataConfig",
        "output": "OutputDataConfig",
        "resources": "ResourceConfig",
    },
    structures={
        "algorithm": _ALGORITHM,
        "output": Structure(Output, {"uri": "S3OutputPath"}),
        "resources": Structure(
            Resources, {"volume_size_in_gb": "VolumeSizeInGB"}, lists={"instance_groups": Structure(InstanceGroup)}
        ),
        "stopping_condition": Structure(StoppingCondition),
        "checkpoint_config": Structure(CheckpointConfig, {"uri": "S3Uri"}),
        "retry_strategy": Structure(RetryStrategy),
    },
    lists={"channels": _CHANNEL, "tags": Structure(Tag)},
)

#: Members that the API requires, and a job on this machine leaves empty.
_EMPTY_MEMBERS: Final = ("TrainingJobName", "RoleArn")


def read_request(request: Mapping[str, Any]) -> TrainingJob:
    """Read a CreateTrainingJob request. Raises RequestError if a member is missing or has another shape."""
    return _JOB.read(request)


def write_request(job: TrainingJob) -> dict[str, Any]:
    """Build the CreateTrainingJob request of a job; a name or a role that the job does not have is left out."""
    return {name: value for name, value in _JOB.write(job).items() if value != "" or name not in _EMPTY_MEMBERS}
