"""The request CreateTrainingJob: read to a `TrainingJob`, written again, and checked. No I/O.

A member has the name of its field in CamelCase, unless its structure names it otherwise. None is a member that the
request leaves out; members without a field are kept in the field ``carried``, so that what AWS adds to a structure
later is passed on unchanged.

The checks are the rules that the API's schema cannot express, and the limits of this machine.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, Final, Generic, TypeVar, get_args

from tritonforge.errors import RequestError
from tritonforge.training.job.training_job import (
    AlgorithmSpecification,
    Channel,
    CheckpointConfig,
    DataType,
    InputMode,
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
from tritonforge.triton.service_limits import TRAINING_TIME

__all__ = ["find_problems", "read_request", "write_request"]

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


#: Source: API_Channel, `ChannelName`; the name is that of a folder.
_CHANNEL_NAME: Final = re.compile(r"[A-Za-z0-9.\-_]+")
_STORES: Final = "S3DataSource, FileSystemDataSource or DatasetSource"


def find_problems(job: TrainingJob) -> tuple[str, ...]:
    """Return everything that the documentation forbids about a job, one sentence each, in the order of the request."""
    return (
        *_check_algorithm(job),
        *_check_channels(job),
        *_check_resources(job),
        *_check_stopping(job),
        *_check_checkpoints(job),
    )


def check_metric_regex(regex: str) -> str:
    """Return why a metric's regex finds no value, "" for a valid one.

    The value is the first group. Source: SageMaker developer guide, "Define Training Metrics".

    >>> check_metric_regex("loss=([0-9.]+)"), check_metric_regex("loss=")
    ('', 'it has no group, which would be the value; write loss=([0-9.]+)')
    """
    try:
        compiled = re.compile(regex)
    except (re.error, RecursionError, OverflowError) as error:
        return f"it is not a regular expression: {error}"
    return "" if compiled.groups else f"it has no group, which would be the value; write {regex}([0-9.]+)"


def _check_algorithm(job: TrainingJob) -> Iterator[str]:
    algorithm = job.algorithm
    if algorithm is None:
        if "ServerlessJobConfig" not in job.carried:  # such a job has no container of its own
            yield "AlgorithmSpecification is missing; it names the image or the algorithm"
        return
    # Source: API_AlgorithmSpecification, `AlgorithmName`: mutually exclusive with TrainingImage, and one is needed.
    if (algorithm.training_image is None) == (algorithm.algorithm_name is None):
        both = "both are" if algorithm.training_image is not None else "neither is"
        yield f"AlgorithmSpecification takes either TrainingImage or AlgorithmName; {both} given"
    for definition in algorithm.metric_definitions or ():
        if wrong := check_metric_regex(definition.regex):
            yield f"MetricDefinitions: the Regex of {definition.name}: {wrong}"


def _check_channels(job: TrainingJob) -> Iterator[str]:
    channels = job.channels or ()
    # Source: API_Channel, `ChannelName`: a channel is named, and its name is its folder.
    for name, times in Counter(channel.name for channel in channels).items():
        if times > 1:
            yield f"InputDataConfig has {times} channels that are called {name}; each needs a name of its own"
    for channel in channels:
        if not _CHANNEL_NAME.fullmatch(channel.name) or channel.name in (".", ".."):
            yield f"a channel cannot be called {channel.name!r}: expected letters, digits, '.', '-' and '_'"
        for sentence in _check_channel(job, channel):
            yield f"channel {channel.name}: {sentence}"


def _check_channel(job: TrainingJob, channel: Channel) -> Iterator[str]:
    mode = job.mode(channel)
    stores = (channel.source.s3 is not None) + len(channel.source.carried)
    if stores != 1:
        yield f"its DataSource must have one of {_STORES}; {stores or 'none'} are given"
    if mode not in get_args(InputMode):
        yield f"its input mode is {mode!r}; a training job takes {' or '.join(get_args(InputMode))}"
    if mode != "Pipe":
        # Source: API_Channel, `CompressionType` ("used only in Pipe input mode"), `RecordWrapperType`.
        if channel.compression_type == "Gzip":
            yield f"CompressionType Gzip is for Pipe mode only, and its input mode is {mode}; leave it unset"
        if channel.record_wrapper_type == "RecordIO":
            yield f"RecordWrapperType RecordIO is for Pipe mode only, and its input mode is {mode}; leave it unset"
    if channel.data is not None:
        yield from _check_data(job, channel.data, mode)


def _check_data(job: TrainingJob, data: S3Data, mode: InputMode) -> Iterator[str]:
    if data.data_type == "AugmentedManifestFile":
        # Source: API_S3DataSource, `S3DataType`: "can only be used if the Channel's input mode is Pipe"; the
        # attributes and their order: SageMaker developer guide, "Provide Dataset Metadata to Training Jobs with an
        # Augmented Manifest File".
        if mode != "Pipe":
            yield f"an AugmentedManifestFile needs InputMode Pipe, and its input mode is {mode}"
        if not data.attribute_names:
            yield "an AugmentedManifestFile needs AttributeNames: which attributes of a line are streamed, in order"
    elif data.attribute_names:
        yield f"AttributeNames are those of an AugmentedManifestFile, and its S3DataType is {data.data_type}"
    if repeated := [name for name, times in Counter(data.attribute_names or ()).items() if times > 1]:
        yield f"AttributeNames has {repeated[0]} more than once"
    # Source: SageMaker developer guide, "Access Training Data": fast file mode takes S3 prefixes.
    if mode == "FastFile" and data.data_type != "S3Prefix":
        yield f"FastFile mode takes S3DataType S3Prefix only, and its S3DataType is {data.data_type}"
    if data.data_type not in get_args(DataType) and job.algorithm is not None:
        yield f"its S3DataType is {data.data_type!r}; a container takes {', '.join(get_args(DataType))}"
    # Source: API_S3DataSource, `InstanceGroupNames`.
    groups = {group.instance_group_name for group in (job.resources and job.resources.instance_groups) or ()}
    for name in data.instance_group_names or ():
        if name not in groups:
            yield f"InstanceGroupNames has {name}, which ResourceConfig.InstanceGroups has not"


def _check_resources(job: TrainingJob) -> Iterator[str]:
    resources = job.resources
    if resources is None:
        return
    alone = {
        "InstanceType": resources.instance_type is not None,
        "InstanceGroups": bool(resources.instance_groups),
        "InstancePlacementConfig": "InstancePlacementConfig" in resources.carried,
        "EnableManagedSpotTraining": bool(job.enable_managed_spot_training),
    }
    # Source: API_ResourceConfig, `InstancePreferences`, `SelectedInstanceType`, `InstanceGroups`.
    if "InstancePreferences" in resources.carried:
        for name in (name for name, is_given in alone.items() if is_given):
            yield f"ResourceConfig.InstancePreferences cannot be used together with {name}"
    elif not alone["InstanceType"] and not alone["InstanceGroups"] and "ServerlessJobConfig" not in job.carried:
        yield "ResourceConfig names no instances: it needs InstanceType and InstanceCount, or InstanceGroups"
    if alone["InstanceType"] and alone["InstanceGroups"]:
        yield "ResourceConfig takes either InstanceType with InstanceCount, or InstanceGroups; both are given"
    if alone["InstanceType"] and not resources.instance_count:
        yield "ResourceConfig.InstanceCount must be at least 1"
    names = Counter(group.instance_group_name for group in resources.instance_groups or ())
    for name, times in names.items():
        if times > 1:
            yield f"ResourceConfig.InstanceGroups has {times} groups that are called {name}"
    for name in ("SelectedInstanceType", "SelectedInstanceCount"):
        if name in resources.carried:
            yield f"ResourceConfig.{name} is set by SageMaker, and cannot be requested"


def _check_stopping(job: TrainingJob) -> Iterator[str]:
    condition = job.stopping_condition
    longest = None if condition is None else condition.max_wait_time_in_seconds
    # Source: API_StoppingCondition.
    longest_run = TRAINING_TIME.value
    if job.max_runtime > longest_run:
        yield f"MaxRuntimeInSeconds is {job.max_runtime}; it cannot be more than {longest_run}, which is 28 days"
    if job.enable_managed_spot_training and longest is None:
        yield "EnableManagedSpotTraining needs StoppingCondition.MaxWaitTimeInSeconds, at least MaxRuntimeInSeconds"
    if longest is not None and longest < job.max_runtime:
        is_default = condition is None or condition.max_runtime_in_seconds is None
        yield (
            f"MaxWaitTimeInSeconds is {longest}; it must be at least MaxRuntimeInSeconds, which is "
            f"{job.max_runtime}{' by default' if is_default else ''}"
        )


def _check_checkpoints(job: TrainingJob) -> Iterator[str]:
    config = job.checkpoint_config
    path = config.local_path if config is not None else None
    if path is None:
        return
    folder = path.rstrip("/")
    # One mount would hide the other. Source: API_CheckpointConfig; SageMaker developer guide, "Using the SageMaker
    # Training and Inference Toolkits" (/opt/ml is SageMaker's).
    taken = any(f"{folder}/".startswith(f"/opt/ml/{name}/") for name in ("input", "model", "output", "code"))
    if not path.startswith("/") or ".." in path.split("/") or folder in ("", "/opt", "/opt/ml") or taken:
        yield f"CheckpointConfig.LocalPath is {path!r}; it must be an absolute path apart from SageMaker's own folders"


def find_unsupported(job: TrainingJob) -> tuple[str, ...]:
    """Return what SageMaker supports and this machine does not, one sentence each."""
    sentences = []
    resources = job.resources
    groups = (resources and resources.instance_groups) or ()
    count = max(
        1, (resources and resources.instance_count) or 1, len(groups), *(group.instance_count for group in groups)
    )
    if count > 1:
        sentences.append(f"the job requests {count} instances, and this machine is one; set InstanceCount to 1")
    names = {channel.name for channel in job.channels or ()}
    for channel in job.channels or ():
        name, _, number = channel.name.rpartition("_")
        if number.isdigit() and name in names:
            sentences.append(
                f"channel {channel.name}: its folder would be where epoch {number} of {name} is; rename it"
            )
        if channel.data is None:
            sentences.append(f"channel {channel.name}: only S3DataSource can be read on this machine")
        elif channel.data.data_type == "AugmentedManifestFile" and channel.compression_type == "Gzip":
            sentences.append(
                f"channel {channel.name}: CompressionType Gzip is not documented for an augmented manifest; "
                "leave it unset"
            )
    return tuple(sentences)
