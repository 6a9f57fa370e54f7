"""Plans of algorithms and model packages: uploads of their data, then the resource. This module does no I/O.

A name is given once: the resource that has it is the requested one, or is in the way. A second run does nothing. A
resource that failed its validation cannot be used and is replaced.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.jobs.kinds import ALGORITHM, MODEL_PACKAGE, JobKind, find_difference
from tritonforge.sagemaker.jobs.publication import (
    AlgorithmRequest,
    ModelPackageRequest,
    find_outputs,
    place_profile,
)
from tritonforge.sagemaker.jobs.specification import ValidationProfile
from tritonforge.sagemaker.jobs.training_plan import ChannelContent, ObservedData, plan_uploads
from tritonforge.sagemaker.plans.plan import Plan, Step

__all__ = ["MODEL", "ObservedResource", "plan_algorithm", "plan_model_package"]

#: The name of a local model, beside the names of channels.
MODEL: Final = "model"

_SERVICE: Final = "sagemaker"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedResource:
    """The state of a name on AWS: its description, None if it does not exist; and whether its group exists."""

    description: Mapping[str, Any] | None = None
    has_group: bool = True


def plan_algorithm(
    request: AlgorithmRequest,
    contents: Mapping[str, ChannelContent],
    observed: ObservedData,
    existing: ObservedResource,
    *,
    replaces: bool = False,
) -> Plan:
    """Return the plan of an algorithm; with ``replaces`` another one of its name is deleted first.

    Raises:
        DefinitionError: an address must be in S3 and is not.
        DeploymentError: another algorithm has the name, or is being validated under it.
    """
    profile = _place(request.profile, contents, observed)
    members = replace(request, profile=profile).to_request()
    return _plan(ALGORITHM, members["AlgorithmName"], members, contents, observed, existing, replaces=replaces)


def plan_model_package(
    request: ModelPackageRequest,
    contents: Mapping[str, ChannelContent],
    observed: ObservedData,
    existing: ObservedResource,
    *,
    replaces: bool = False,
) -> Plan:
    """Return the plan of a model package, or of a version of a group, which is created if it does not exist.

    Raises:
        DefinitionError, DeploymentError: as `plan_algorithm`.
    """
    model = contents.get(MODEL)
    if model is not None:
        request = request.with_model(f"s3://{observed.bucket.name}/{model.key}")
    request = replace(request, profile=_place(request.profile, contents, observed))
    name = request.name or f"{request.group}"
    plan = _plan(MODEL_PACKAGE, name, request.to_request(), contents, observed, existing, replaces=replaces)
    if request.group is None or existing.has_group or not plan.steps:
        return plan
    group = Step(
        action="create",
        service=_SERVICE,
        operation="CreateModelPackageGroup",
        kind="model package group",
        name=request.group,
        request={"ModelPackageGroupName": request.group},
        why="it does not exist",
    )
    return replace(plan, steps=(group, *plan.steps))


def _place(
    profile: ValidationProfile | None, contents: Mapping[str, ChannelContent], observed: ObservedData
) -> ValidationProfile | None:
    keys = {name: content.key for name, content in contents.items()}
    return None if profile is None else place_profile(profile, keys, bucket=observed.bucket.name)


def _plan(
    kind: JobKind,
    name: str,
    request: Mapping[str, Any],
    contents: Mapping[str, ChannelContent],
    observed: ObservedData,
    existing: ObservedResource,
    *,
    replaces: bool,
) -> Plan:
    steps = tuple(_plan_resource(kind, name, request, existing.description, replaces=replaces))
    uploads = plan_uploads(contents, observed, outputs=find_outputs(request)) if steps else ()
    return Plan(name=name, region=observed.region, account=observed.account, steps=(*uploads, *steps))


def _plan_resource(
    kind: JobKind,
    name: str,
    request: Mapping[str, Any],
    description: Mapping[str, Any] | None,
    *,
    replaces: bool,
) -> Iterator[Step]:
    why = "it does not exist"
    if description is not None and description[kind.status] != "Deleting":
        status = description[kind.status]
        has_failed = status == "Failed"
        difference = find_difference(description, request)
        if not difference and not has_failed:
            return
        if not kind.has_ended(description):
            raise DeploymentError(f"{kind.noun} {name}: is {status} with another {difference}. Wait for its end")
        if difference and not replaces and not has_failed:
            raise DeploymentError(
                f"{kind.noun} {name}: exists with another {difference}. Choose another name (--name), or delete it "
                "first (--replace)"
            )
        why = "the failed one is deleted" if has_failed else "the other one is deleted"
        yield Step(
            action="delete",
            service=_SERVICE,
            operation=kind.delete,
            kind=kind.noun,
            name=name,
            request={kind.name: name},
            why="it failed its validation and cannot be used" if has_failed else f"it has another {difference}",
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
