"""The containers of models that name a model package: what runs is what the package says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tritonforge.sagemaker.emulator.control.desk import Desk
from tritonforge.sagemaker.emulator.control.failures import invalid
from tritonforge.sagemaker.emulator.control.registry import naming

__all__ = ["served"]

#: What of a package's container a model's container takes over.
_TAKEN = ("Image", "ModelDataUrl", "ModelDataSource", "AdditionalModelDataSources")


def served(desk: Desk, request: Mapping[str, Any]) -> Mapping[str, Any]:
    """PrimaryContainer or Containers of a CreateModel request as they run, empty where no package is named.

    Raises ApiError for a package that is not there, or cannot be deployed. The sentences of the latter are ours.
    """
    primary, several = request.get("PrimaryContainer"), request.get("Containers") or ()
    if primary and primary.get("ModelPackageName"):
        return {"PrimaryContainer": _container(desk, primary)}
    if any(each.get("ModelPackageName") for each in several):
        return {
            "Containers": [_container(desk, each) if each.get("ModelPackageName") else each for each in several],
        }
    return {}


def _container(desk: Desk, given: Mapping[str, Any]) -> Mapping[str, Any]:
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
    containers = specification["Containers"]
    if len(containers) != 1:
        raise invalid(
            f"ModelPackage {found.arn} has {len(containers)} containers: tritonforge's emulator runs models of one "
            "container; put the steps into one Triton ensemble."
        )
    (own,) = containers
    kept = {name: value for name, value in given.items() if name != "ModelPackageName"}
    environment = {**(own.get("Environment") or {}), **(given.get("Environment") or {})}
    return {**kept, **{name: own[name] for name in _TAKEN if own.get(name)}, "Environment": environment}
