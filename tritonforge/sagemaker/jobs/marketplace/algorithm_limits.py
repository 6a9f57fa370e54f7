"""Limits of algorithms and model packages that AWS documents and its service model does not hold. No I/O.

`tritonforge.sagemaker.limits` names the checks. Where a sentence is AWS's own, its
source stands at it; the others are what the request's own members say against each other, and are ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from tritonforge.errors import DefinitionError, InputError, RequestError
from tritonforge.sagemaker.jobs.marketplace import specification
from tritonforge.sagemaker.jobs.marketplace.profile import Profile
from tritonforge.sagemaker.jobs.transform import limits as transform_limits
from tritonforge.sagemaker.service_model import Violation
from tritonforge.training.algorithm.declaration import Algorithm
from tritonforge.training.job.rules import check_metric_regex
from tritonforge.training.job.training_job import TrainingJob
from tritonforge.transform.job import TransformJob
from tritonforge.triton.service_limits import PACKAGE_ENVIRONMENT_ENTRIES

__all__ = ["create_algorithm", "create_model_package"]

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


def create_algorithm(request: Mapping[str, Any]) -> Iterator[Violation]:
    """``CreateAlgorithm``."""
    training = request[_TRAINING]
    before = [
        *_hyperparameters(training.get("SupportedHyperParameters") or ()),
        *_metrics(training),
        *_unique((_TRAINING, "TrainingChannels"), "channel", training["TrainingChannels"]),
    ]
    yield from before
    inference = request.get(_INFERENCE)
    if inference is not None:
        yield from _inference(inference, needs_instances=True)
    yield from _certified(request, needs_training=True)
    profile = _profile(request)
    if isinstance(profile, Violation):
        yield profile
        return
    if profile is None or before:  # what contradicts itself cannot be held against a profile
        return
    if profile.training is not None:
        yield from _trained(_declared(request), profile.training)
    if profile.transform is not None:
        if inference is None:
            sentence = f"a transform job needs a model that serves; give the algorithm its {_INFERENCE}"
            yield Violation((*_PROFILE, "TransformJobDefinition"), sentence)
        yield from _transformed(profile.transform, inference or {})


def create_model_package(request: Mapping[str, Any]) -> Iterator[Violation]:
    """``CreateModelPackage``."""
    name, group = request.get("ModelPackageName"), request.get("ModelPackageGroupName")
    # API CreateModelPackage: the name is required for unversioned models and not applicable to versioned ones, the
    # group the other way round.
    if (name is None) == (group is None):
        sentence = "give ModelPackageName for an unversioned model, or ModelPackageGroupName for a version of a group"
        yield Violation(("ModelPackageName",), f"{sentence}; {'both are' if name is not None else 'none is'} given")
    for member, others, kind in (
        ("Tags", group is not None, "unversioned models; a version has the tags of its group"),
        ("CertifyForMarketplace", group is not None, "unversioned models"),
        ("ModelApprovalStatus", name is not None, "versions of a group"),
    ):
        if request.get(member) and others:  # AWS's SDK sends CertifyForMarketplace false for versions as well
            yield Violation((member,), f"{member} is for {kind}; leave it out")
    inference = request.get(_INFERENCE)
    source = request.get("SourceAlgorithmSpecification")
    if inference is None and source is None and request.get("SourceUri") is None:
        sentence = f"a model package needs {_INFERENCE}, SourceAlgorithmSpecification or SourceUri"
        yield Violation((_INFERENCE,), sentence)
    for index, each in enumerate((source or {}).get("SourceAlgorithms") or ()):
        where = ("SourceAlgorithmSpecification", "SourceAlgorithms", index)
        yield from _archive(each.get("ModelDataUrl"), (*where, "ModelDataUrl"))
    if inference is not None:
        yield from _inference(inference, needs_instances=group is None)
        for index, each in enumerate(inference["Containers"]):
            yield from _archive(each.get("ModelDataUrl"), (_INFERENCE, "Containers", index, "ModelDataUrl"))
    yield from _certified(request, needs_training=False)
    profile = _profile(request)
    if isinstance(profile, Violation):
        yield profile
    elif profile is not None and profile.transform is not None:
        yield from _transformed(profile.transform, inference or {})


def _hyperparameters(given: Sequence[Mapping[str, Any]]) -> Iterator[Violation]:
    where: _Path = (_TRAINING, "SupportedHyperParameters")
    # API HyperParameterSpecification.Name: "The name must be unique."
    yield from _unique(where, "hyperparameter", given)
    for index, each in enumerate(given):
        here = (*where, index)
        ranges = {name for name, value in (each.get("Range") or {}).items() if value is not None}
        wanted = _RANGES.get(each["Type"])
        if ranges - {wanted}:
            found = ", ".join(sorted(ranges - {wanted}))
            yield Violation(
                (*here, "Range"), f"hyperparameter {each['Name']} is {each['Type']}, and its Range has {found}"
            )
            continue
        # API HyperParameterSpecification.DefaultValue: "If a default value is specified, a hyperparameter cannot be
        # required." The others are ours.
        if each["Type"] == "Categorical" and not ranges:
            continue  # AWS does not say that one needs values
        try:
            specification.hyperparameter(each)
        except (DefinitionError, RequestError) as error:
            yield Violation(here, str(error))


def _metrics(training: Mapping[str, Any]) -> Iterator[Violation]:
    metrics = training.get("MetricDefinitions") or ()
    yield from _unique((_TRAINING, "MetricDefinitions"), "metric", metrics)
    for index, each in enumerate(metrics):
        if sentence := check_metric_regex(each["Regex"]):
            yield Violation((_TRAINING, "MetricDefinitions", index, "Regex"), f"metric {each['Name']}: {sentence}")
    names = {each["Name"] for each in metrics}
    for index, each in enumerate(training.get("SupportedTuningJobObjectiveMetrics") or ()):
        # API MetricDefinition: "Specify one of the defined metrics to use as an objective metric".
        if each["MetricName"] not in names:
            sentence = f"objective {each['MetricName']} is none of the MetricDefinitions"
            yield Violation((_TRAINING, "SupportedTuningJobObjectiveMetrics", index, "MetricName"), sentence)


def _inference(inference: Mapping[str, Any], *, needs_instances: bool) -> Iterator[Violation]:
    if needs_instances:
        for member in ("SupportedTransformInstanceTypes", "SupportedRealtimeInferenceInstanceTypes"):
            # API InferenceSpecification: "This parameter is required for unversioned models".
            if not inference.get(member):
                yield Violation((_INFERENCE, member), f"{member} is required for what is not a version of a group")
    for index, each in enumerate(inference["Containers"]):
        count, most = len(each.get("Environment") or {}), PACKAGE_ENVIRONMENT_ENTRIES.value
        if count > most:
            sentence = f"Environment has {count} entries; SageMaker supports up to {most}"
            yield Violation((_INFERENCE, "Containers", index, "Environment"), sentence)


def _certified(request: Mapping[str, Any], *, needs_training: bool) -> Iterator[Violation]:
    """What Marketplace wants. Source: AWS Marketplace seller guide, "Creating algorithm images"."""
    if not request.get("CertifyForMarketplace"):
        return
    place = ("CertifyForMarketplace",)
    if needs_training and request.get(_INFERENCE) is None:
        yield Violation(
            place, f"an algorithm on AWS Marketplace has a training and an inference image; give {_INFERENCE}"
        )
    profiles = (request.get(_VALIDATION) or {}).get("ValidationProfiles") or ()
    if not profiles or profiles[0].get("TransformJobDefinition") is None:
        jobs = "a training and a transform job" if needs_training else "a transform job"
        yield Violation(place, f"AWS Marketplace takes what was validated with {jobs}; give {_VALIDATION}")
    for index, each in enumerate((request.get(_INFERENCE) or {}).get("Containers") or ()):
        if each.get("ModelDataSource") is not None:
            sentence = "AWS Marketplace takes no ModelDataSource; give ModelDataUrl, one model.tar.gz"
            yield Violation((_INFERENCE, "Containers", index, "ModelDataSource"), sentence)


def _profile(request: Mapping[str, Any]) -> Profile | Violation | None:
    profiles = (request.get(_VALIDATION) or {}).get("ValidationProfiles") or ()
    if not profiles:
        return None
    try:
        return Profile.from_request(profiles[0])
    except RequestError as error:
        return Violation(_PROFILE, str(error))


def _declared(request: Mapping[str, Any]) -> Algorithm | None:
    """The algorithm, None where AWS lets stand what a declaration does not: a Categorical without values."""
    try:
        return specification.algorithm(request)
    except DefinitionError:
        return None


def _trained(declared: Algorithm | None, job: TrainingJob) -> Iterator[Violation]:
    """What keeps the training job of a profile from running this algorithm."""
    where = (*_PROFILE, "TrainingJobDefinition")
    for sentence in job.problems():
        if not sentence.startswith("AlgorithmSpecification"):  # the algorithm itself is what is run
            yield Violation(where, sentence)
    if declared is None:
        return
    try:
        declared.read(job.hyperparameters or {})
    except InputError as error:
        yield Violation((*where, "HyperParameters"), str(error))
    try:
        declared.check([_Offered(each.name, job.mode(each), each.content_type or "") for each in job.channels or ()])
    except InputError as error:
        yield Violation((*where, "InputDataConfig"), str(error))
    resources = job.resources
    if resources is None:
        return
    types = [resources.instance_type, *(each.instance_type for each in resources.instance_groups or ())]
    for each in types:
        if each is not None:
            yield from _among(each, declared.training_instance_types, (*where, "ResourceConfig", "InstanceType"))
    count = (resources.instance_count or 0) + sum(each.instance_count for each in resources.instance_groups or ())
    if count > 1 and not declared.distributed:
        # API TrainingSpecification.SupportsDistributedTraining.
        sentence = f"{count} instances are asked for, and SupportsDistributedTraining is false"
        yield Violation((*where, "ResourceConfig", "InstanceCount"), sentence)


def _transformed(job: TransformJob, inference: Mapping[str, Any]) -> Iterator[Violation]:
    """What keeps the transform job of a profile from running with this inference."""
    where = (*_PROFILE, "TransformJobDefinition")
    for limit in transform_limits.create_transform_job(job.to_request()):
        yield Violation((*where, *limit.path), limit.sentence)
    for value, member, path in (
        (job.resources.instance_type if job.resources else None, "SupportedTransformInstanceTypes", "InstanceType"),
        (job.input.content_type, "SupportedContentTypes", "ContentType"),
        (job.output.accept, "SupportedResponseMIMETypes", "Accept"),
    ):
        if value is not None:
            yield from _among(value, inference.get(member) or (), (*where, _PARENTS[path], path))


#: Where in a TransformJobDefinition these lie.
_PARENTS: Final = {"InstanceType": "TransformResources", "ContentType": "TransformInput", "Accept": "TransformOutput"}


class _Offered:
    """A channel of a training job, as a declaration looks at it."""

    def __init__(self, name: str, mode: str, content_type: str) -> None:
        self.name = name
        self.mode = mode
        self.content_type = content_type


def _unique(where: _Path, what: str, given: Sequence[Mapping[str, Any]]) -> Iterator[Violation]:
    for name, times in Counter(each["Name"] for each in given).items():
        if times > 1:
            yield Violation(where, f"{times} {what}s are called {name}; each needs a name of its own")


def _among(value: str, known: Sequence[str], where: _Path) -> Iterator[Violation]:
    """A value that is not among those that are stated; where none are, everything is."""
    bare = value.partition(";")[0].strip()
    if known and value not in known and bare not in known:
        yield Violation(where, f"{where[-1]} is {value}; the specification supports {', '.join(known)}")


def _archive(url: str | None, where: _Path) -> Iterator[Violation]:
    # API ModelPackageContainerDefinition.ModelDataUrl, SourceAlgorithm.ModelDataUrl: "must point to a single gzip
    # compressed tar archive (.tar.gz suffix)".
    if url is not None and not url.endswith(".tar.gz"):
        yield Violation(where, f"ModelDataUrl is {url!r}; it must point to one archive that ends in .tar.gz")
