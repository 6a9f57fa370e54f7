"""The containers of models that name a model package: what runs is what the package says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tritonforge.emulator.control.failures import invalid
from tritonforge.emulator.control.registry import naming
from tritonforge.emulator.control.request_context import Desk

__all__ = ["served"]

#: What of a package's container a model's container takes over.
_TAKEN = ("ContainerHostname", "Image", "ModelDataUrl", "ModelDataSource", "AdditionalModelDataSources")


def served(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """PrimaryContainer or Containers of a CreateModel request as they run, empty where no package is named.

    Raises ApiError for a package that is not there, or cannot be deployed. The sentences of the latter are ours.
    """
    primary, several = request.get("PrimaryContainer"), request.get("Containers") or ()
    given = [primary] if primary else several
    if not any(container.get("ModelPackageName") for container in given):
        return {}
    containers: list[Mapping[str, Any]] = []
    for container in given:
        containers += _containers(desk, container) if container.get("ModelPackageName") else [container]
    # PrimaryContainer None hides the request's own, which names the package.
    return {"PrimaryContainer": containers[0]} if len(containers) == 1 else _several(containers)


def _several(containers: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return {"PrimaryContainer": None, "Containers": containers}


def _containers(desk: Desk, given: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The containers of a model package; what the request says of the environment is for each of them."""
    found = naming.package(desk, given["ModelPackageName"])
    if found.status != "Completed":
        raise invalid(f"ModelPackage {found.arn} is {found.status}; a model needs one that is Completed.")
    approval = found.request.get("ModelApprovalStatus")
    if found.group and approval != "Approved":
        # API CreateModelPackage.ModelApprovalStatus: "must be set to Approved to deploy the model".
        raise invalid(f"ModelPackage {found.arn} is {approval}; approve it before it is deployed.")
    specification: Mapping[str, Any] = found.inference
    wanted = given.get("InferenceSpecificationName")
    if wanted:
        additional = {each["Name"]: each for each in found.request.get("AdditionalInferenceSpecifications") or ()}
        if wanted not in additional:
            raise invalid(f"ModelPackage {found.arn} has no inference specification {wanted!r}.")
        specification = additional[wanted]
    kept = {name: value for name, value in given.items() if name != "ModelPackageName"}
    return [
        {
            **kept,
            **{name: own[name] for name in _TAKEN if own.get(name)},
            "Environment": {**(own.get("Environment") or {}), **(given.get("Environment") or {})},
        }
        for own in specification["Containers"]
    ]
