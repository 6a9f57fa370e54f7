"""The plan: what a deployment comes to, held against what AWS has, as steps in order. No I/O.

What exists under a name that carries its digest is up to date, so a step is planned for what is missing, and for what
can be changed in place and was: tags, weights, counts, scaling. A plan that was carried out leaves an empty one behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.endpoints import removal, resources, scalable_targets
from tritonforge.sagemaker.endpoints.deployment import Content, Deployment
from tritonforge.sagemaker.endpoints.desired import DesiredResources, build_desired
from tritonforge.sagemaker.endpoints.resources import IN_TRANSITION, Observed, ObservedConfig, ObservedEndpoint
from tritonforge.sagemaker.plans.plan import Change, Plan, Step

__all__ = ["plan_bucket", "plan_deployment"]

_SAGEMAKER: Final = "sagemaker"
#: The region whose buckets are created without naming it. Source: API CreateBucket, LocationConstraint.
_FIRST_REGION: Final = "us-east-1"


def plan_deployment(
    deployment: Deployment, contents: Mapping[str, Content], observed: Observed, *, prune: int | None = None
) -> Plan:
    """The steps that make AWS what the deployment says; ``prune`` also removes all but so many old generations.

    ``contents`` are the repositories by what the variants call them, "" the deployment's own.

    Raises:
        DefinitionError: the deployment cannot be made into requests.
        DeploymentError: an endpoint of the name is somebody else's, or the bucket that was named does not exist.
    """
    wanted = build_desired(
        deployment, contents, region=observed.region, account=observed.account, partition=observed.partition
    )
    endpoint = observed.endpoint
    if endpoint is not None and not removal.belongs_to(endpoint, observed, deployment.name):
        raise DeploymentError(
            f"the endpoint {deployment.name!r} exists and is not tritonforge's; choose another name, or hand it over "
            f"with the tag {resources.DEPLOYMENT}={deployment.name}"
        )
    steps = [
        *_bucket(wanted, observed),
        *removal.abort_incomplete_uploads(observed),
        *_uploads(wanted, observed),
        *_models(wanted, observed),
        *_config(wanted, observed),
        *_endpoint(wanted, observed),
        *scalable_targets.plan_scaling(wanted, observed),
    ]
    kept = {wanted.config_name}
    old = removal.list_old_generations(deployment.name, observed, kept=kept)
    if prune is not None:
        steps += removal.prune_generations(deployment.name, wanted, observed, keep=prune)
        old = old[:prune]
    return Plan(
        name=deployment.name,
        region=observed.region,
        account=observed.account,
        steps=tuple(steps),
        notes=wanted.notes,
        old=old,
        config=wanted.config_name,
        digests={name: content.digest for name, content in contents.items()},
    )


def _bucket(wanted: DesiredResources, observed: Observed) -> Iterator[Step]:
    if observed.bucket.exists or not wanted.uploads:
        return
    if not wanted.default_bucket:
        raise DeploymentError(f"there is no bucket {wanted.bucket!r}; create it, or leave it out for SageMaker's own")
    yield plan_bucket(wanted.bucket, observed.region)


def plan_bucket(name: str, region: str) -> Step:
    """The step that creates SageMaker's default bucket of an account and a region."""
    request: dict[str, Any] = {"Bucket": name}
    if region != _FIRST_REGION:
        request["CreateBucketConfiguration"] = {"LocationConstraint": region}
    return Step(
        action="create",
        service="s3",
        operation="CreateBucket",
        kind="bucket",
        name=name,
        request=request,
        why="SageMaker's default bucket of this account and region does not exist yet",
    )


def _uploads(wanted: DesiredResources, observed: Observed) -> Iterator[Step]:
    there = observed.bucket.objects
    for upload in wanted.uploads:
        if upload.files is None:
            missing = {} if upload.key in there else {upload.key: upload.size}
            why = "it is not in S3"
        else:
            sizes = {f"{upload.key}{path}": size for path, size in upload.files.items()}
            missing = {key: size for key, size in sizes.items() if there.get(key) != size}
            why = f"{len(missing)} of its {len(sizes)} files are not in S3"
        if missing:
            yield Step(
                action="upload",
                service="s3",
                operation="PutObject",
                kind="archive" if upload.files is None else "files",
                name=f"s3://{wanted.bucket}/{upload.key}",
                request={"Bucket": wanted.bucket, "Key": upload.key, "Metadata": {"tritonforge-digest": upload.digest}},
                why=why,
                source=upload.source,
                size=sum(missing.values()),
            )


def _models(wanted: DesiredResources, observed: Observed) -> Iterator[Step]:
    for name, request in wanted.models.items():
        seen = observed.models.get(name)
        if seen is None:
            yield Step(
                action="create",
                service=_SAGEMAKER,
                operation="CreateModel",
                kind="model",
                name=name,
                request=request,
                why="there is none of this repository with these settings",
            )
        else:
            yield from _tags("model", name, seen.arn, seen.tags, request["Tags"])


def _config(wanted: DesiredResources, observed: Observed) -> Iterator[Step]:
    seen = observed.configs.get(wanted.config_name)
    if seen is None:
        yield Step(
            action="create",
            service=_SAGEMAKER,
            operation="CreateEndpointConfig",
            kind="endpoint configuration",
            name=wanted.config_name,
            request=wanted.config,
            why="there is none with these settings",
        )
    else:
        yield from _tags("endpoint configuration", wanted.config_name, seen.arn, seen.tags, wanted.config["Tags"])


def _tags(
    kind: str, name: str, arn: str, seen: Mapping[str, str], wanted: Sequence[Mapping[str, str]]
) -> Iterator[Step]:
    """Tags that are missing or differ; others are somebody's (cost allocation, say) and stay."""
    missing = [each for each in wanted if seen.get(each["Key"]) != each["Value"]]
    if missing:
        yield Step(
            action="update",
            service=_SAGEMAKER,
            operation="AddTags",
            kind=kind,
            name=name,
            request={"ResourceArn": arn, "Tags": missing},
            why="tags are missing or differ",
            changes=[Change(f"tag {each['Key']}", seen.get(each["Key"]), each["Value"]) for each in missing],
        )


def _endpoint(wanted: DesiredResources, observed: Observed) -> Iterator[Step]:
    seen = observed.endpoint
    name = str(wanted.endpoint["EndpointName"])
    if seen is None:
        yield from _create(wanted, name, "there is none of this name")
    elif seen.status == "Deleting":
        yield removal.wait_deleted(name, "it is being deleted")
        yield from _create(wanted, name, "the old one is deleted")
    elif seen.status == "Failed":
        yield from scalable_targets.release_targets(observed, None)
        reason = f": {seen.failure_reason}" if seen.failure_reason else ""
        yield removal.delete_endpoint(name, f"it has failed, and nothing else can be done with it{reason}")
        yield removal.wait_deleted(name, "so that the name is free")
        yield from _create(wanted, name, "the failed one is deleted")
    else:
        yield from _change(wanted, observed, seen)


def _create(wanted: DesiredResources, name: str, why: str) -> Iterator[Step]:
    yield Step(
        action="create",
        service=_SAGEMAKER,
        operation="CreateEndpoint",
        kind="endpoint",
        name=name,
        request=wanted.endpoint,
        why=why,
    )
    yield _wait(name, wanted.config_name, "until it is in service")


def _wait(name: str, config: str, why: str) -> Step:
    return Step(
        action="wait",
        service=_SAGEMAKER,
        operation="DescribeEndpoint",
        kind="endpoint",
        name=name,
        request={"EndpointName": name},
        why=why,
        until=config,
    )


def _change(wanted: DesiredResources, observed: Observed, seen: ObservedEndpoint) -> Iterator[Step]:
    current = seen.config
    if seen.status in IN_TRANSITION:
        current = seen.pending or seen.config
        yield _wait(seen.name, current, f"it is {seen.status}, and can be changed when that is over")
    if current != wanted.config_name or seen.status == "UpdateRollbackFailed":
        yield from _update(wanted, observed, seen, current)
    elif changes := _drift(wanted, seen):
        yield _weights(wanted, seen, changes)
        yield _wait(seen.name, wanted.config_name, "until it is in service again")
    yield from _tags("endpoint", seen.name, seen.arn, seen.tags, wanted.endpoint["Tags"])


def _update(wanted: DesiredResources, observed: Observed, seen: ObservedEndpoint, current: str) -> Iterator[Step]:
    old = observed.configs.get(current)
    yield from scalable_targets.release_targets(observed, scalable_targets.find_replaced_variants(old, wanted))
    request: dict[str, Any] = {"EndpointName": seen.name, "EndpointConfigName": wanted.config_name}
    if scalable_targets.must_keep_counts(old, wanted, observed):
        # Otherwise the new fleet starts with the configuration's count, however many instances the load needs now.
        request["RetainAllVariantProperties"] = True
        request["ExcludeRetainedVariantProperties"] = [{"VariantPropertyType": "DesiredWeight"}]
    if wanted.deployment_config is not None:
        request["DeploymentConfig"] = wanted.deployment_config
    why = "it has another configuration"
    if seen.status == "UpdateRollbackFailed":
        why = "its last update failed, and so did the way back"
    elif old is not None and not resources.is_config(seen.name, old.name):
        why = "somebody has pointed it to another configuration"
    yield Step(
        action="update",
        service=_SAGEMAKER,
        operation="UpdateEndpoint",
        kind="endpoint",
        name=seen.name,
        request=request,
        why=why,
        changes=[Change("EndpointConfigName", current, wanted.config_name), *_settings(old, wanted)],
    )
    yield _wait(seen.name, wanted.config_name, "until the new fleet has taken over")


def _settings(old: ObservedConfig | None, wanted: DesiredResources) -> Iterator[Change]:
    """What differs between the variants of two configurations."""
    before = {each["VariantName"]: each for each in old.variants} if old is not None else {}
    variants = [*wanted.config["ProductionVariants"], *wanted.config.get("ShadowProductionVariants", ())]
    after = {each["VariantName"]: each for each in variants}
    for name in sorted({*before, *after}):
        one, other = before.get(name), after.get(name)
        if one is None or other is None:
            if old is not None:
                yield Change(name, None if one is None else "a variant", None if other is None else "a variant")
            continue
        for field in sorted({*one, *other}):
            if one.get(field) != other.get(field):
                yield Change(f"{name}.{field}", one.get(field), other.get(field))


def _drift(wanted: DesiredResources, seen: ObservedEndpoint) -> list[Change]:
    """Weights and counts that are no longer those of the configuration; counts only where nothing scales them."""
    scaled = {target["ResourceId"] for target in wanted.targets}
    running = {each["VariantName"]: each for each in seen.variants}
    changes: list[Change] = []
    for variant in wanted.config["ProductionVariants"]:
        name = variant["VariantName"]
        now = running.get(name)
        if now is None:
            continue
        weight = now.get("DesiredWeight", now.get("CurrentWeight"))
        if weight is not None and not _near(float(weight), variant["InitialVariantWeight"]):
            changes.append(Change(f"{name}.DesiredWeight", weight, variant["InitialVariantWeight"]))
        count, initial = now.get("DesiredInstanceCount"), variant.get("InitialInstanceCount")
        if scalable_targets.is_scaled(seen.name, variant, scaled) or count is None or initial is None:
            continue
        if count != initial:
            changes.append(Change(f"{name}.DesiredInstanceCount", count, initial))
    return changes


def _near(one: float, other: float) -> bool:
    """Whether two weights are the same to AWS, which keeps them as 32-bit floats."""
    return abs(one - other) <= 1e-6 * max(1.0, abs(one), abs(other))


def _weights(wanted: DesiredResources, seen: ObservedEndpoint, changes: Sequence[Change]) -> Step:
    changed = {each.field for each in changes}
    wishes: list[dict[str, Any]] = []
    for variant in wanted.config["ProductionVariants"]:
        name = variant["VariantName"]
        wish: dict[str, Any] = {"VariantName": name}
        if f"{name}.DesiredWeight" in changed:
            wish["DesiredWeight"] = variant["InitialVariantWeight"]
        if f"{name}.DesiredInstanceCount" in changed:
            wish["DesiredInstanceCount"] = variant["InitialInstanceCount"]
        if len(wish) > 1:
            wishes.append(wish)
    return Step(
        action="update",
        service=_SAGEMAKER,
        operation="UpdateEndpointWeightsAndCapacities",
        kind="endpoint",
        name=seen.name,
        request={"EndpointName": seen.name, "DesiredWeightsAndCapacities": wishes},
        why="somebody has changed its weights or counts",
        changes=changes,
    )
