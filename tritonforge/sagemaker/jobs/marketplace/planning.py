"""The plan of an algorithm or a model package: its sample data, then the thing itself. This module does no I/O.

A name is given once: what has it already is the one that was meant, or is in the way. A second run does nothing; what
failed its validation is of no use, and is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.jobs.kinds import ALGORITHM, MODEL_PACKAGE, Kind
from tritonforge.sagemaker.jobs.marketplace import ModelPackage, Profile, Publication
from tritonforge.sagemaker.jobs.matching import member_that_differs
from tritonforge.sagemaker.jobs.training.contents import Content, Seen
from tritonforge.sagemaker.jobs.training.planning import is_local, placed, uploads
from tritonforge.sagemaker.plans.plan import Plan, Step
from tritonforge.training.job.training_job import Channel, Output, S3Data, Source, TrainingJob

__all__ = ["MODEL", "TRANSFORM", "Standing", "algorithm", "data", "package"]

#: What data are called that are no channels: the objects that inference is validated with, and a model.
TRANSFORM: Final = "transform"
MODEL: Final = "model"

_SERVICE: Final = "sagemaker"
#: Members that no description has.
_NOT_TOLD: Final = frozenset({"Tags", "ClientToken"})
_DELETE: Final = {ALGORITHM.noun: "DeleteAlgorithm", MODEL_PACKAGE.noun: "DeleteModelPackage"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What AWS has under a name now: the description, None where there is nothing; and whether its group is there."""

    described: Mapping[str, Any] | None = None
    has_group: bool = True


def data(profile: Profile | None, *, model: str | None = None) -> TrainingJob:
    """Everything that a validation and a package read, as the channels of one job, so that it is sent as such."""
    training = None if profile is None else profile.training
    channels = list((training and training.channels) or ())
    if profile is not None and profile.transform is not None:
        channels.append(_channel(TRANSFORM, profile.transform.input.uri))
    if model is not None:
        channels.append(_channel(MODEL, model))
    return TrainingJob(name="", output=Output(uri=""), channels=tuple(channels))


def _channel(name: str, uri: str) -> Channel:
    return Channel(name=name, source=Source(s3=S3Data(uri=uri)))


def algorithm(
    publication: Publication, contents: Mapping[str, Content], seen: Seen, standing: Standing, *, replaces: bool = False
) -> Plan:
    """What it takes to have an algorithm; with ``replaces`` another one of its name is deleted first.

    Raises:
        DefinitionError: an address is not in S3 that must be.
        DeploymentError: something else has the name, or is being validated under it.
    """
    profile = _in_s3(publication.profile, contents, seen)
    request = replace(publication, profile=profile).to_request()
    return _plan(ALGORITHM, request["AlgorithmName"], request, contents, seen, standing, replaces=replaces)


def package(
    wanted: ModelPackage, contents: Mapping[str, Content], seen: Seen, standing: Standing, *, replaces: bool = False
) -> Plan:
    """What it takes to have a model package, or a version of a group, which is created where there is none.

    Raises:
        DefinitionError, DeploymentError: as of `algorithm`.
    """
    model = contents.get(MODEL)
    if model is not None:
        wanted = _with_model(wanted, f"s3://{seen.bucket.name}/{model.key}")
    wanted = replace(wanted, profile=_in_s3(wanted.profile, contents, seen))
    name = wanted.name or f"{wanted.group}"
    plan = _plan(MODEL_PACKAGE, name, wanted.to_request(), contents, seen, standing, replaces=replaces)
    if wanted.group is None or standing.has_group or not plan.steps:
        return plan
    group = Step(
        action="create",
        service=_SERVICE,
        operation="CreateModelPackageGroup",
        kind="model package group",
        name=wanted.group,
        request={"ModelPackageGroupName": wanted.group},
        why="there is none of this name",
    )
    return replace(plan, steps=(group, *plan.steps))


def _with_model(wanted: ModelPackage, uri: str) -> ModelPackage:
    """The package of a model at an address: the algorithm's that made it, or the first container's."""
    if wanted.algorithm_name is not None or not wanted.containers:
        return replace(wanted, model_data_url=uri)
    first, *others = wanted.containers
    return replace(wanted, containers=(replace(first, model_data_url=uri), *others))


def _in_s3(profile: Profile | None, contents: Mapping[str, Content], seen: Seen) -> Profile | None:
    """The profile with its data and its outputs in S3."""
    if profile is None:
        return None
    bucket = seen.bucket.name
    keys = {name: each.key for name, each in contents.items()}
    if profile.training is not None:
        profile = replace(profile, training=placed(profile.training, keys, bucket=bucket))
    transform = profile.transform
    if transform is not None and is_local(transform.input.uri) and TRANSFORM in keys:
        source = replace(transform.input, uri=f"s3://{bucket}/{keys[TRANSFORM]}")
        profile = replace(profile, transform=replace(transform, input=source))
    return profile


def _plan(
    kind: Kind,
    name: str,
    request: Mapping[str, Any],
    contents: Mapping[str, Content],
    seen: Seen,
    standing: Standing,
    *,
    replaces: bool,
) -> Plan:
    steps = tuple(_steps(kind, name, request, standing.described, replaces=replaces))
    first = uploads(contents, seen, outputs=_outputs(request)) if steps else ()
    return Plan(name=name, region=seen.region, account=seen.account, steps=(*first, *steps))


def _outputs(value: Any) -> Iterator[str]:
    """Every address that validation writes to."""
    if isinstance(value, Mapping):
        for name, each in value.items():
            if name == "S3OutputPath":
                yield str(each)
            else:
                yield from _outputs(each)
    elif isinstance(value, list):
        for each in value:
            yield from _outputs(each)


def _steps(
    kind: Kind, name: str, request: Mapping[str, Any], described: Mapping[str, Any] | None, *, replaces: bool
) -> Iterator[Step]:
    why = "there is none of this name"
    if described is not None and described[kind.status] != "Deleting":
        status = described[kind.status]
        wanted = {member: value for member, value in request.items() if member not in _NOT_TOLD}
        differs = member_that_differs(described, wanted)
        if not differs and status != "Failed":
            return
        if kind.is_under_way(described):
            raise DeploymentError(f"the {kind.noun} {name} is {status}, with another {differs}; wait for its end first")
        if differs and not replaces and status != "Failed":
            raise DeploymentError(
                f"the {kind.noun} {name} exists with another {differs}; choose another name (--name), or have it "
                "deleted first (--replace)"
            )
        why = "the failed one is deleted" if status == "Failed" else "the other one is deleted"
        yield Step(
            action="delete",
            service=_SERVICE,
            operation=_DELETE[kind.noun],
            kind=kind.noun,
            name=name,
            request={kind.name: name},
            why="it has failed its validation, and is of no use" if status == "Failed" else f"it has another {differs}",
        )
    yield Step(
        action="create",
        service=_SERVICE,
        operation=kind.create,
        kind=kind.noun,
        name=name,
        request=dict(request),
        why=why,
    )
