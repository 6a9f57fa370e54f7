"""The plan of a deployment: the desired resources compared with what AWS has, as steps in order. No I/O.

What exists under a name that carries its digest is up to date. So a step is planned for what is missing, and for what
can be changed in place and was: tags, weights, counts, scaling. The plan after a plan that was carried out is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.endpoints import removal, resources, scalable_targets
from tritonforge.sagemaker.endpoints.deployment import Content, Deployment
from tritonforge.sagemaker.endpoints.desired import DesiredResources, build_desired
from tritonforge.sagemaker.endpoints.removal import wait_for_endpoint
from tritonforge.sagemaker.endpoints.resources import IN_TRANSITION, Observed, ObservedConfig, ObservedEndpoint
from tritonforge.sagemaker.plans.plan import Change, Plan, Step

__all__ = ["plan_bucket", "plan_deployment"]

#: The region whose buckets are created without naming it. Source: API CreateBucket, LocationConstraint.
_FIRST_REGION: Final = "us-east-1"


def plan_deployment(
    deployment: Deployment, contents: Mapping[str, Content], observed: Observed, *, prune: int | None = None
) -> Plan:
    """Return the steps that make AWS match a deployment.

    Args:
        deployment: the desired endpoint.
        contents: its repositories by the name that the variants use, "" for the deployment's own.
        observed: what AWS has.
        prune: remove all old generations but this number of the newest; None keeps all.

    Raises:
        DefinitionError: the deployment cannot be made into requests.
        DeploymentError: an endpoint of the name belongs to others, or the bucket that was named does not exist.
    """
    desired = build_desired(
        deployment, contents, region=observed.region, account=observed.account, partition=observed.partition
    )
    endpoint = observed.endpoint
    if endpoint is not None and not removal.belongs_to(endpoint, observed, deployment.name):
        raise DeploymentError(
            f"the endpoint {deployment.name!r} exists and is not tritonforge's; choose another name, or hand it over "
            f"with the tag {resources.DEPLOYMENT}={deployment.name}"
        )
    steps = [
        *_plan_uploads(desired, observed),
        *_plan_models(desired, observed),
        *_plan_config(desired, observed),
        *_plan_endpoint(desired, observed),
        *scalable_targets.plan_scaling(desired, observed),
    ]
    old = removal.list_old_generations(deployment.name, observed, kept={desired.config_name})
    if prune is not None:
        steps += removal.prune_generations(deployment.name, desired, observed, keep=prune)
        old = old[:prune]
    return Plan(
        name=deployment.name,
        region=observed.region,
        account=observed.account,
        steps=tuple(steps),
        notes=desired.notes,
        old=old,
        config=desired.config_name,
        digests={name: content.digest for name, content in contents.items()},
    )


def plan_bucket(name: str, region: str) -> Step:
    """Create SageMaker's default bucket of an account and a region."""
    request: dict[str, Any] = {"Bucket": name}
    if region != _FIRST_REGION:
        request["CreateBucketConfiguration"] = {"LocationConstraint": region}
    why = "SageMaker's default bucket of this account and region does not exist yet"
    return Step("create", "CreateBucket", "bucket", name, request, why, service="s3")


def _plan_uploads(desired: DesiredResources, observed: Observed) -> Iterator[Step]:
    if desired.uploads and not observed.bucket.exists:
        if not desired.default_bucket:
            raise DeploymentError(
                f"the bucket {desired.bucket!r} does not exist; create it, or leave it out for SageMaker's default one"
            )
        yield plan_bucket(desired.bucket, observed.region)
    yield from removal.abort_incomplete_uploads(observed)
    stored = observed.bucket.objects
    for upload in desired.uploads:
        if upload.files is None:
            missing = {} if upload.key in stored else {upload.key: upload.size}
            kind, why = "archive", "it is not in S3"
        else:
            sizes = {f"{upload.key}{path}": size for path, size in upload.files.items()}
            missing = {key: size for key, size in sizes.items() if stored.get(key) != size}
            kind, why = "files", f"{len(missing)} of its {len(sizes)} files are not in S3"
        if missing:
            request = {"Bucket": desired.bucket, "Key": upload.key, "Metadata": {"tritonforge-digest": upload.digest}}
            uri, size = f"s3://{desired.bucket}/{upload.key}", sum(missing.values())
            yield Step("upload", "PutObject", kind, uri, request, why, service="s3", source=upload.source, size=size)


def _plan_models(desired: DesiredResources, observed: Observed) -> Iterator[Step]:
    for name, request in desired.models.items():
        model = observed.models.get(name)
        if model is None:
            why = "no model of this repository has these settings"
            yield Step("create", "CreateModel", "model", name, request, why)
        else:
            yield from _plan_tags("model", model.name, model.arn, model.tags, request["Tags"])


def _plan_config(desired: DesiredResources, observed: Observed) -> Iterator[Step]:
    name, kind = desired.config_name, "endpoint configuration"
    config = observed.configs.get(name)
    if config is None:
        yield Step("create", "CreateEndpointConfig", kind, name, desired.config, "none has these settings")
    else:
        yield from _plan_tags(kind, name, config.arn, config.tags, desired.config["Tags"])


def _plan_tags(
    kind: str, name: str, arn: str, tags: Mapping[str, str], desired: Sequence[Mapping[str, str]]
) -> Iterator[Step]:
    """Set tags that are missing or differ; others, such as tags of cost allocation, stay."""
    missing = [tag for tag in desired if tags.get(tag["Key"]) != tag["Value"]]
    if missing:
        request = {"ResourceArn": arn, "Tags": missing}
        changes = [Change(f"tag {tag['Key']}", tags.get(tag["Key"]), tag["Value"]) for tag in missing]
        yield Step("update", "AddTags", kind, name, request, "tags are missing or differ", changes=changes)


def _plan_endpoint(desired: DesiredResources, observed: Observed) -> Iterator[Step]:
    endpoint = observed.endpoint
    name = str(desired.endpoint["EndpointName"])
    if endpoint is None:
        yield from _create_endpoint(desired, name, "no endpoint has this name")
    elif endpoint.status == "Deleting":
        yield wait_for_endpoint(name, "deleted", "it is being deleted")
        yield from _create_endpoint(desired, name, "the old one is deleted")
    elif endpoint.status == "Failed":
        yield from scalable_targets.release_targets(observed, None)
        reason = f": {endpoint.failure_reason}" if endpoint.failure_reason else ""
        yield removal.delete_endpoint(name, f"it has failed, and nothing else can be done with it{reason}")
        yield wait_for_endpoint(name, "deleted", "so that the name is free")
        yield from _create_endpoint(desired, name, "the failed one is deleted")
    else:
        yield from _change_endpoint(desired, observed, endpoint)


def _create_endpoint(desired: DesiredResources, name: str, why: str) -> Iterator[Step]:
    yield Step("create", "CreateEndpoint", "endpoint", name, desired.endpoint, why)
    yield wait_for_endpoint(name, desired.config_name, "until it is in service")


def _change_endpoint(desired: DesiredResources, observed: Observed, endpoint: ObservedEndpoint) -> Iterator[Step]:
    current = endpoint.config
    if endpoint.status in IN_TRANSITION:
        current = endpoint.pending or endpoint.config
        yield wait_for_endpoint(endpoint.name, current, f"it is {endpoint.status}, and can be changed afterwards")
    if current != desired.config_name or endpoint.status == "UpdateRollbackFailed":
        yield from _update_endpoint(desired, observed, endpoint, current)
    elif changes := _find_drift(desired, endpoint):
        yield _reset_weights(desired, endpoint, changes)
        yield wait_for_endpoint(endpoint.name, desired.config_name, "until it is in service again")
    yield from _plan_tags("endpoint", endpoint.name, endpoint.arn, endpoint.tags, desired.endpoint["Tags"])


def _update_endpoint(
    desired: DesiredResources, observed: Observed, endpoint: ObservedEndpoint, current: str
) -> Iterator[Step]:
    old = observed.configs.get(current)
    yield from scalable_targets.release_targets(observed, scalable_targets.find_replaced_variants(old, desired))
    request: dict[str, Any] = {"EndpointName": endpoint.name, "EndpointConfigName": desired.config_name}
    if scalable_targets.must_keep_counts(old, desired, observed):
        # Otherwise the new fleet starts with the configuration's count, however many instances the load needs now.
        request["RetainAllVariantProperties"] = True
        request["ExcludeRetainedVariantProperties"] = [{"VariantPropertyType": "DesiredWeight"}]
    if desired.deployment_config is not None:
        request["DeploymentConfig"] = desired.deployment_config
    why = "it has another configuration"
    if endpoint.status == "UpdateRollbackFailed":
        why = "its last update failed, and so did the rollback"
    elif old is not None and not resources.is_config(endpoint.name, old.name):
        why = "it was changed to another configuration by hand"
    changes = [Change("EndpointConfigName", current, desired.config_name), *_compare_variants(old, desired)]
    yield Step("update", "UpdateEndpoint", "endpoint", endpoint.name, request, why, changes=changes)
    yield wait_for_endpoint(endpoint.name, desired.config_name, "until the new fleet has taken over")


def _compare_variants(old: ObservedConfig | None, desired: DesiredResources) -> Iterator[Change]:
    before = {variant["VariantName"]: variant for variant in old.variants} if old is not None else {}
    variants = [*desired.config["ProductionVariants"], *desired.config.get("ShadowProductionVariants", ())]
    after = {variant["VariantName"]: variant for variant in variants}
    for name in sorted({*before, *after}):
        one, other = before.get(name), after.get(name)
        if one is None or other is None:
            if old is not None:
                yield Change(name, None if one is None else "a variant", None if other is None else "a variant")
            continue
        for field in sorted({*one, *other}):
            if one.get(field) != other.get(field):
                yield Change(f"{name}.{field}", one.get(field), other.get(field))


def _find_drift(desired: DesiredResources, endpoint: ObservedEndpoint) -> list[Change]:
    """Return the weights and counts that differ from the configuration; counts only if nothing scales them."""
    scaled = {target["ResourceId"] for target in desired.targets}
    running = {variant["VariantName"]: variant for variant in endpoint.variants}
    changes: list[Change] = []
    for variant in desired.config["ProductionVariants"]:
        name = variant["VariantName"]
        current = running.get(name)
        if current is None:
            continue
        weight = current.get("DesiredWeight", current.get("CurrentWeight"))
        if weight is not None and not _is_near(float(weight), variant["InitialVariantWeight"]):
            changes.append(Change(f"{name}.DesiredWeight", weight, variant["InitialVariantWeight"]))
        count, initial = current.get("DesiredInstanceCount"), variant.get("InitialInstanceCount")
        if scalable_targets.is_scaled(endpoint.name, variant, scaled) or None in (count, initial):
            continue
        if count != initial:
            changes.append(Change(f"{name}.DesiredInstanceCount", count, initial))
    return changes


def _is_near(one: float, other: float) -> bool:
    """Return True if two weights are the same to AWS, which keeps them as 32-bit floats."""
    return abs(one - other) <= 1e-6 * max(1.0, abs(one), abs(other))


def _reset_weights(desired: DesiredResources, endpoint: ObservedEndpoint, changes: Sequence[Change]) -> Step:
    changed = {change.field for change in changes}
    initial = {"DesiredWeight": "InitialVariantWeight", "DesiredInstanceCount": "InitialInstanceCount"}
    resets: list[dict[str, Any]] = []
    for variant in desired.config["ProductionVariants"]:
        name = variant["VariantName"]
        reset = {member: variant[initial[member]] for member in initial if f"{name}.{member}" in changed}
        if reset:
            resets.append({"VariantName": name, **reset})
    request = {"EndpointName": endpoint.name, "DesiredWeightsAndCapacities": resets}
    why = "its weights or counts were changed by hand"
    operation = "UpdateEndpointWeightsAndCapacities"
    return Step("update", operation, "endpoint", endpoint.name, request, why, changes=changes)
