"""Documented limits of jobs, algorithms and model packages that AWS's service model does not state. No I/O.

`tritonforge.sagemaker.limits` registers the checks by operation. The rules between a job's own values are in
`TrainingJob.problems` and `TransformJob.find_problems`; this module locates these values in the request and adds what
concerns SageMaker's instances. A rule of AWS has its source beside it; the others are contradictions between members of
a request.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from tritonforge.errors import DefinitionError, InputError, RequestError
from tritonforge.sagemaker.jobs.kinds import TRAINING, TRANSFORM
from tritonforge.sagemaker.jobs.specification import ValidationProfile, read_algorithm, read_hyperparameter
from tritonforge.sagemaker.service_model import Violation
from tritonforge.training.job.request import check_metric_regex
from tritonforge.training.job.training_job import TrainingJob
from tritonforge.transform.job import TransformJob
from tritonforge.triton.service_limits import PACKAGE_ENVIRONMENT_ENTRIES, TRANSFORM_INSTANCES

__all__ = ["check_algorithm", "check_batch_model", "check_model_package", "check_training_job", "check_transform_job"]

#: Where in the request the fields are with which the sentences about a job begin.
_PATHS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "AssembleWith": ("TransformOutput", "AssembleWith"),
        "CompressionType": ("TransformInput", "CompressionType"),
        "InputFilter": ("DataProcessing", "InputFilter"),
        "InvocationsMaxRetries": ("ModelClientConfig", "InvocationsMaxRetries"),
        "InvocationsTimeoutInSeconds": ("ModelClientConfig", "InvocationsTimeoutInSeconds"),
        "JoinSource": ("DataProcessing", "JoinSource"),
        "MaxRuntimeInSeconds": ("StoppingCondition", "MaxRuntimeInSeconds"),
        "MaxWaitTimeInSeconds": ("StoppingCondition", "MaxWaitTimeInSeconds"),
        "MetricDefinitions": ("AlgorithmSpecification", "MetricDefinitions"),
        "OutputFilter": ("DataProcessing", "OutputFilter"),
        "S3DataType": ("TransformInput", "DataSource", "S3DataSource", "S3DataType"),
        "SplitType": ("TransformInput", "SplitType"),
        "channel": ("InputDataConfig",),
    }
)
_FIELD: Final = re.compile(r"[A-Za-z0-9]+(\.[A-Za-z0-9]+)*")
_CHANNEL: Final = re.compile(r"channel (\S+): ")

#: Families whose instances have no disk of their own. Source: API ResourceConfig.VolumeSizeInGB, which names these.
_WITHOUT_DISK: Final = frozenset({"c5", "p2"})


def check_training_job(request: Mapping[str, Any]) -> Iterator[Violation]:
    """Check a ``CreateTrainingJob`` request that satisfies the service model."""
    try:
        problems = TrainingJob.from_request(request).problems()
    except RequestError:  # a violation of the service model
        return
    channels = request.get("InputDataConfig") or ()
    names = [channel.get("ChannelName") for channel in channels]
    for sentence in problems:
        channel = _CHANNEL.match(sentence)
        if channel and channel[1] in names:
            yield Violation(("InputDataConfig", names.index(channel[1])), sentence)
        else:
            yield Violation(_find_path(sentence, TRAINING.create), sentence)
    yield from _check_instances(request)
    yield from _check_addresses(request, ("OutputDataConfig", "S3OutputPath"), ("CheckpointConfig", "S3Uri"))
    for index in range(len(channels)):
        yield from _check_addresses(request, ("InputDataConfig", index, "DataSource", "S3DataSource", "S3Uri"))


def check_transform_job(request: Mapping[str, Any]) -> Iterator[Violation]:
    """Check a ``CreateTransformJob`` request that satisfies the service model."""
    try:
        problems = TransformJob.from_request(request).find_problems()
    except RequestError as error:  # a member that is newer than this version
        yield Violation((TRANSFORM.create,), str(error))
        return
    for sentence in problems:
        yield Violation(_find_path(sentence, "TransformJob"), sentence)
    count = (request.get("TransformResources") or {}).get("InstanceCount")
    if isinstance(count, int) and count > TRANSFORM_INSTANCES.value:
        yield Violation(
            ("TransformResources", "InstanceCount"),
            f"InstanceCount is {count}; it cannot exceed {TRANSFORM_INSTANCES.value}",
        )
    yield from _check_addresses(request, ("TransformOutput", "S3OutputPath"), ("DataCaptureConfig", "DestinationS3Uri"))


def check_batch_model(request: Mapping[str, Any]) -> Iterator[Violation]:
    """Check that batch transform can use the model of a ``CreateModel`` request."""
    containers = [request.get("PrimaryContainer"), *(request.get("Containers") or ())]
    for container in containers:
        if not isinstance(container, Mapping):
            continue
        if container.get("ModelDataSource"):
            # API ContainerDefinition.ModelDataSource: "Currently you cannot use ModelDataSource in conjunction with
            # SageMaker batch transform".
            yield Violation(
                ("ModelName",),
                "a model with ModelDataSource cannot be used with batch transform; give its container ModelDataUrl, "
                "one model.tar.gz",
            )
        if container.get("Mode") == "MultiModel":
            # A job's requests carry no TargetModel. Not documented by AWS.
            yield Violation(("ModelName",), "a multi-model container cannot be used with batch transform")


def _find_path(sentence: str, default: str) -> tuple[str | int, ...]:
    """Return where in the request the field is with which a sentence begins."""
    match = _FIELD.match(sentence)
    name = match.group() if match else default
    return _PATHS.get(name, tuple(name.split(".")))


def _check_instances(request: Mapping[str, Any]) -> Iterator[Violation]:
    resources = request.get("ResourceConfig")
    if resources is None:
        if "ServerlessJobConfig" not in request:
            yield Violation(("ResourceConfig",), "ResourceConfig is missing; it names the instances of the job")
        return
    groups = [resources, *(resources.get("InstanceGroups") or ())]
    for instance_type in (str(group["InstanceType"]) for group in groups if group.get("InstanceType")):
        family = instance_type.split(".")[1:2]
        if family and family[0] in _WITHOUT_DISK and not resources.get("VolumeSizeInGB"):
            yield Violation(
                ("ResourceConfig", "VolumeSizeInGB"),
                f"VolumeSizeInGB is missing; {instance_type} has no disk of its own",
            )
    if resources.get("KeepAlivePeriodInSeconds") and request.get("EnableManagedSpotTraining"):
        # Source: SageMaker developer guide, "Train Using SageMaker Managed Warm Pools", considerations.
        yield Violation(
            ("ResourceConfig", "KeepAlivePeriodInSeconds"),
            "KeepAlivePeriodInSeconds keeps instances that EnableManagedSpotTraining gives back; use one of the two",
        )


def _check_addresses(request: Mapping[str, Any], *paths: tuple[str | int, ...]) -> Iterator[Violation]:
    """Check that addresses are in S3. The service model's patterns allow https; API pages show s3:// only."""
    for path in paths:
        value: Any = request
        for part in path:
            value = value[part] if isinstance(part, int) else (value or {}).get(part)
        if isinstance(value, str) and not value.startswith("s3://"):
            yield Violation(path, f"{path[-1]} is {value!r} (expected s3://bucket/prefix)")


_Path: TypeAlias = "tuple[str | int, ...]"

_TRAINING: Final = "TrainingSpecification"
_INFERENCE: Final = "InferenceSpecification"
_VALIDATION: Final = "ValidationSpecification"
_PROFILE: Final = (_VALIDATION, "ValidationProfiles", 0)
_RANGES: Final = {
    "Integer": "IntegerParameterRangeSpecification",
    "Continuous": "ContinuousParameterRangeSpecification",
    "Categorical": "CategoricalParameterRangeSpecification",
}


def check_algorithm(request: Mapping[str, Any]) -> Iterator[Violation]:
    """Check a ``CreateAlgorithm`` request that satisfies the service model."""
    training = request[_TRAINING]
    contradictions = [
        *_check_hyperparameters(training.get("SupportedHyperParameters") or ()),
        *_check_metrics(training),
        *_check_unique((_TRAINING, "TrainingChannels"), "channel", training["TrainingChannels"]),
    ]
    yield from contradictions
    inference = request.get(_INFERENCE)
    if inference is not None:
        yield from _check_inference(inference, needs_instances=True)
    yield from _check_certification(request, needs_training=True)
    profile = _read_profile(request)
    if isinstance(profile, Violation):
        yield profile
        return
    if profile is None or contradictions:  # the profile cannot be checked against contradictions
        return
    if profile.training is not None:
        yield from _check_training(request, profile.training)
    if profile.transform is not None:
        if inference is None:
            sentence = f"a transform job requires a model that serves; give the algorithm its {_INFERENCE}"
            yield Violation((*_PROFILE, "TransformJobDefinition"), sentence)
        yield from _check_transform(profile.transform, inference or {})


def check_model_package(request: Mapping[str, Any]) -> Iterator[Violation]:
    """Check a ``CreateModelPackage`` request that satisfies the service model."""
    name, group = request.get("ModelPackageName"), request.get("ModelPackageGroupName")
    # API CreateModelPackage: the name is required for unversioned models and not applicable to versioned ones, the
    # group the other way round.
    if (name is None) == (group is None):
        sentence = "give ModelPackageName for an unversioned model, or ModelPackageGroupName for a version of a group"
        yield Violation(("ModelPackageName",), f"{sentence}; {'both are' if name is not None else 'none is'} given")
    for member, is_invalid, owner in (
        ("Tags", group is not None, "unversioned models; a version has the tags of its group"),
        ("CertifyForMarketplace", group is not None, "unversioned models"),
        ("ModelApprovalStatus", name is not None, "versions of a group"),
    ):
        if request.get(member) and is_invalid:  # AWS's SDK sends CertifyForMarketplace false for versions as well
            yield Violation((member,), f"{member} is for {owner}; omit it")
    inference = request.get(_INFERENCE)
    source = request.get("SourceAlgorithmSpecification")
    if inference is None and source is None and request.get("SourceUri") is None:
        sentence = f"a model package requires {_INFERENCE}, SourceAlgorithmSpecification or SourceUri"
        yield Violation((_INFERENCE,), sentence)
    for index, algorithm in enumerate((source or {}).get("SourceAlgorithms") or ()):
        path = ("SourceAlgorithmSpecification", "SourceAlgorithms", index, "ModelDataUrl")
        yield from _check_archive(algorithm.get("ModelDataUrl"), path)
    if inference is not None:
        yield from _check_inference(inference, needs_instances=group is None)
        for index, container in enumerate(inference["Containers"]):
            yield from _check_archive(container.get("ModelDataUrl"), (_INFERENCE, "Containers", index, "ModelDataUrl"))
    yield from _check_certification(request, needs_training=False)
    profile = _read_profile(request)
    if isinstance(profile, Violation):
        yield profile
    elif profile is not None and profile.transform is not None:
        yield from _check_transform(profile.transform, inference or {})


def _check_hyperparameters(parameters: Sequence[Mapping[str, Any]]) -> Iterator[Violation]:
    base: _Path = (_TRAINING, "SupportedHyperParameters")
    # API HyperParameterSpecification.Name: "The name must be unique."
    yield from _check_unique(base, "hyperparameter", parameters)
    for index, parameter in enumerate(parameters):
        path = (*base, index)
        ranges = {name for name, value in (parameter.get("Range") or {}).items() if value is not None}
        if wrong := ranges - {_RANGES.get(parameter["Type"])}:
            text = ", ".join(sorted(wrong))
            sentence = f"hyperparameter {parameter['Name']} is {parameter['Type']}, and its Range has {text}"
            yield Violation((*path, "Range"), sentence)
            continue
        if parameter["Type"] == "Categorical" and not ranges:
            continue  # AWS does not document that it requires values
        # API HyperParameterSpecification.DefaultValue: "If a default value is specified, a hyperparameter cannot be
        # required."
        try:
            read_hyperparameter(parameter)
        except (DefinitionError, RequestError) as error:
            yield Violation(path, str(error))


def _check_metrics(training: Mapping[str, Any]) -> Iterator[Violation]:
    metrics = training.get("MetricDefinitions") or ()
    yield from _check_unique((_TRAINING, "MetricDefinitions"), "metric", metrics)
    for index, metric in enumerate(metrics):
        if sentence := check_metric_regex(metric["Regex"]):
            yield Violation((_TRAINING, "MetricDefinitions", index, "Regex"), f"metric {metric['Name']}: {sentence}")
    names = {metric["Name"] for metric in metrics}
    for index, objective in enumerate(training.get("SupportedTuningJobObjectiveMetrics") or ()):
        # API MetricDefinition: "Specify one of the defined metrics to use as an objective metric".
        if objective["MetricName"] not in names:
            sentence = f"objective {objective['MetricName']} is not among the MetricDefinitions"
            yield Violation((_TRAINING, "SupportedTuningJobObjectiveMetrics", index, "MetricName"), sentence)


def _check_inference(inference: Mapping[str, Any], *, needs_instances: bool) -> Iterator[Violation]:
    if needs_instances:
        for member in ("SupportedTransformInstanceTypes", "SupportedRealtimeInferenceInstanceTypes"):
            # API InferenceSpecification: "This parameter is required for unversioned models".
            if not inference.get(member):
                yield Violation((_INFERENCE, member), f"{member} is required except for a version of a group")
    for index, container in enumerate(inference["Containers"]):
        count = len(container.get("Environment") or {})
        if count > PACKAGE_ENVIRONMENT_ENTRIES.value:
            sentence = f"Environment has {count} entries; SageMaker supports up to {PACKAGE_ENVIRONMENT_ENTRIES.value}"
            yield Violation((_INFERENCE, "Containers", index, "Environment"), sentence)


def _check_certification(request: Mapping[str, Any], *, needs_training: bool) -> Iterator[Violation]:
    """Check what Marketplace requires. Source: AWS Marketplace seller guide, "Creating algorithm images"."""
    if not request.get("CertifyForMarketplace"):
        return
    path = ("CertifyForMarketplace",)
    if needs_training and request.get(_INFERENCE) is None:
        sentence = f"AWS Marketplace requires a training and an inference image of an algorithm; give {_INFERENCE}"
        yield Violation(path, sentence)
    profiles = (request.get(_VALIDATION) or {}).get("ValidationProfiles") or ()
    if not profiles or profiles[0].get("TransformJobDefinition") is None:
        jobs = "a training and a transform job" if needs_training else "a transform job"
        yield Violation(path, f"AWS Marketplace requires a validation with {jobs}; give {_VALIDATION}")
    for index, container in enumerate((request.get(_INFERENCE) or {}).get("Containers") or ()):
        if container.get("ModelDataSource") is not None:
            sentence = "AWS Marketplace does not accept ModelDataSource; give ModelDataUrl, one model.tar.gz"
            yield Violation((_INFERENCE, "Containers", index, "ModelDataSource"), sentence)


def _read_profile(request: Mapping[str, Any]) -> ValidationProfile | Violation | None:
    profiles = (request.get(_VALIDATION) or {}).get("ValidationProfiles") or ()
    if not profiles:
        return None
    try:
        return ValidationProfile.from_request(profiles[0])
    except RequestError as error:
        return Violation(_PROFILE, str(error))


def _check_training(request: Mapping[str, Any], job: TrainingJob) -> Iterator[Violation]:
    """Check that the training job of a profile can run the algorithm of the request."""
    base = (*_PROFILE, "TrainingJobDefinition")
    for sentence in job.problems():
        if not sentence.startswith("AlgorithmSpecification"):  # it is the algorithm of the request
            yield Violation(base, sentence)
    try:
        declared = read_algorithm(request)
    except DefinitionError:  # AWS allows a Categorical without values, `Algorithm` does not
        return
    try:
        declared.read(job.hyperparameters or {})
    except InputError as error:
        yield Violation((*base, "HyperParameters"), str(error))
    try:
        declared.check(
            [_Channel(channel.name, job.mode(channel), channel.content_type or "") for channel in job.channels or ()]
        )
    except InputError as error:
        yield Violation((*base, "InputDataConfig"), str(error))
    resources = job.resources
    if resources is None:
        return
    groups = resources.instance_groups or ()
    for instance_type in (resources.instance_type, *(group.instance_type for group in groups)):
        if instance_type is not None:
            path = (*base, "ResourceConfig", "InstanceType")
            yield from _check_supported(instance_type, declared.training_instance_types, path)
    count = (resources.instance_count or 0) + sum(group.instance_count for group in groups)
    if count > 1 and not declared.distributed:
        # API TrainingSpecification.SupportsDistributedTraining.
        sentence = f"{count} instances are requested, but SupportsDistributedTraining is false"
        yield Violation((*base, "ResourceConfig", "InstanceCount"), sentence)


def _check_transform(job: TransformJob, inference: Mapping[str, Any]) -> Iterator[Violation]:
    """Check that the transform job of a profile can run with an InferenceSpecification."""
    base = (*_PROFILE, "TransformJobDefinition")
    for violation in check_transform_job(job.to_request()):
        yield Violation((*base, *violation.path), violation.sentence)
    instance_type = job.resources.instance_type if job.resources else None
    for value, member, path in (
        (instance_type, "SupportedTransformInstanceTypes", ("TransformResources", "InstanceType")),
        (job.input.content_type, "SupportedContentTypes", ("TransformInput", "ContentType")),
        (job.output.accept, "SupportedResponseMIMETypes", ("TransformOutput", "Accept")),
    ):
        if value is not None:
            yield from _check_supported(value, inference.get(member) or (), (*base, *path))


class _Channel(NamedTuple):
    """A channel of a training job as a declaration checks it."""

    name: str
    mode: str
    content_type: str


def _check_unique(path: _Path, noun: str, members: Sequence[Mapping[str, Any]]) -> Iterator[Violation]:
    for name, count in Counter(member["Name"] for member in members).items():
        if count > 1:
            yield Violation(path, f"duplicate {noun} name {name}")


def _check_supported(value: str, supported: Sequence[str], path: _Path) -> Iterator[Violation]:
    """Check that a value is among the supported ones; an empty list supports everything."""
    essence = value.partition(";")[0].strip()
    if supported and value not in supported and essence not in supported:
        yield Violation(path, f"{path[-1]} is {value}; the specification supports {', '.join(supported)}")


def _check_archive(url: str | None, path: _Path) -> Iterator[Violation]:
    # API ModelPackageContainerDefinition.ModelDataUrl, SourceAlgorithm.ModelDataUrl: "must point to a single gzip
    # compressed tar archive (.tar.gz suffix)".
    if url is not None and not url.endswith(".tar.gz"):
        yield Violation(path, f"ModelDataUrl is {url!r}; it must point to one archive that ends in .tar.gz")
