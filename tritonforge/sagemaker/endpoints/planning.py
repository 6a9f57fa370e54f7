"""The plans of a deployment and of its removal: what is desired compared with what AWS has, as steps in order. No I/O.

What exists under a name that carries its digest is up to date. So a step is planned for what is missing, and for what
can be changed in place and was: tags, weights, counts, scaling. The plan after a plan that was carried out is empty.

Only what carries the deployment's tag is removed, and in S3 only keys of the form that it gives: DIGEST/... below its
own prefix. Objects go before the models that name them, so that an interrupted removal finds them again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from tritonforge.errors import DeploymentError
from tritonforge.sagemaker.endpoints import resources, scalable_targets
from tritonforge.sagemaker.endpoints.deployment import Content, Deployment
from tritonforge.sagemaker.endpoints.desired import DesiredResources, build_desired
from tritonforge.sagemaker.endpoints.resources import (
    IN_TRANSITION,
    Observed,
    ObservedConfig,
    ObservedEndpoint,
    ObservedModel,
    is_owned,
)
from tritonforge.sagemaker.plans.plan import Change, Generation, Plan, Step
from tritonforge.triton.service_limits import S3_DELETED_OBJECTS

__all__ = ["plan_bucket", "plan_deployment", "plan_removal"]

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
    if endpoint is not None and not _belongs_to(endpoint, observed, deployment.name):
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
    old = _list_old_generations(deployment.name, observed, kept={desired.config_name})
    if prune is not None:
        steps += _prune_generations(deployment.name, desired, observed, keep=prune)
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
    yield from _abort_incomplete_uploads(observed)
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
        yield _wait_for_endpoint(name, "deleted", "it is being deleted")
        yield from _create_endpoint(desired, name, "the old one is deleted")
    elif endpoint.status == "Failed":
        yield from scalable_targets.release_targets(observed, None)
        reason = f": {endpoint.failure_reason}" if endpoint.failure_reason else ""
        yield _delete_endpoint(name, f"it has failed, and nothing else can be done with it{reason}")
        yield _wait_for_endpoint(name, "deleted", "so that the name is free")
        yield from _create_endpoint(desired, name, "the failed one is deleted")
    else:
        yield from _change_endpoint(desired, observed, endpoint)


def _create_endpoint(desired: DesiredResources, name: str, why: str) -> Iterator[Step]:
    yield Step("create", "CreateEndpoint", "endpoint", name, desired.endpoint, why)
    yield _wait_for_endpoint(name, desired.config_name, "until it is in service")


def _change_endpoint(desired: DesiredResources, observed: Observed, endpoint: ObservedEndpoint) -> Iterator[Step]:
    current = endpoint.config
    if endpoint.status in IN_TRANSITION:
        current = endpoint.pending or endpoint.config
        yield _wait_for_endpoint(endpoint.name, current, f"it is {endpoint.status}, and can be changed afterwards")
    if current != desired.config_name or endpoint.status == "UpdateRollbackFailed":
        yield from _update_endpoint(desired, observed, endpoint, current)
    elif changes := _find_drift(desired, endpoint):
        yield _reset_weights(desired, endpoint, changes)
        yield _wait_for_endpoint(endpoint.name, desired.config_name, "until it is in service again")
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
    yield _wait_for_endpoint(endpoint.name, desired.config_name, "until the new fleet has taken over")


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


def plan_removal(name: str, observed: Observed) -> Plan:
    """Return the steps that remove everything of a deployment; what else exists under its name is noted and stays."""
    steps: list[Step] = []
    notes: list[str] = []
    configs, models = _list_owned(name, observed)
    why = "it is removed"
    if observed.endpoint is not None and not _belongs_to(observed.endpoint, observed, name):
        notes.append(f"the endpoint {name} has no tag {resources.DEPLOYMENT}={name}: it belongs to others, and stays")
    else:
        steps += _remove_endpoint(name, observed)
    steps += [_delete_config(config, why) for config in configs]
    steps += _abort_incomplete_uploads(observed)
    for bucket in observed.buckets:
        keys = [key for key in sorted(bucket.objects) if resources.is_object(key, bucket.folder)]
        steps += _delete_objects(bucket.name, keys, why)
    steps += [_delete_model(model, why) for model in models]
    foreign = sorted(
        f"s3://{bucket.name}/{key}"
        for bucket in observed.buckets
        for key in bucket.objects
        if not resources.is_object(key, bucket.folder)
    )
    notes += [f"{uri} is not tritonforge's, and stays" for uri in foreign]
    return Plan(name=name, region=observed.region, account=observed.account, steps=tuple(steps), notes=tuple(notes))


def _belongs_to(endpoint: ObservedEndpoint, observed: Observed, name: str) -> bool:
    """Return True if an endpoint is the deployment's: by its tag, or, if that was removed, by its configuration."""
    if is_owned(endpoint.tags, name):
        return True
    config = observed.configs.get(endpoint.config)
    return (
        resources.DEPLOYMENT not in endpoint.tags
        and config is not None
        and resources.is_config(name, config.name)
        and is_owned(config.tags, name)
    )


def _remove_endpoint(name: str, observed: Observed) -> Iterator[Step]:
    why = "it is removed"
    if alarms := sorted(alarm["AlarmName"] for alarm in observed.alarms):
        yield scalable_targets.delete_alarms(alarms, why)
    for target in observed.targets:
        yield scalable_targets.deregister(target, why)
    endpoint = observed.endpoint
    if endpoint is None:
        return
    if endpoint.status in IN_TRANSITION - {"Deleting"}:
        yield _wait_for_endpoint(name, "settled", f"it is {endpoint.status}, and can be deleted afterwards")
    if endpoint.status != "Deleting":
        yield _delete_endpoint(name, why)
    yield _wait_for_endpoint(name, "deleted", "so that nothing uses what follows")


def _list_owned(name: str, observed: Observed) -> tuple[list[ObservedConfig], list[ObservedModel]]:
    """Return the configurations and models that carry the deployment's tag, the newest first."""
    configs = [config for config in observed.configs.values() if is_owned(config.tags, name)]
    models = [model for model in observed.models.values() if is_owned(model.tags, name)]
    configs.sort(key=lambda config: (config.created, config.name), reverse=True)
    models.sort(key=lambda model: (model.created, model.name), reverse=True)
    return configs, models


def _list_old_generations(name: str, observed: Observed, *, kept: Collection[str]) -> tuple[Generation, ...]:
    """Return the configurations of the deployment except those that are ``kept``, the newest first."""
    return tuple(
        Generation(name=config.name, created=config.created, models=tuple(sorted(config.models)))
        for config in _list_owned(name, observed)[0]
        if config.name not in kept
    )


def _prune_generations(name: str, desired: DesiredResources, observed: Observed, *, keep: int) -> list[Step]:
    """Remove all old generations but the newest ``keep``: configurations, then objects, then models."""
    configs, models = _list_owned(name, observed)
    old = [config for config in configs if config.name != desired.config_name]
    used = set(desired.models).union(*(config.models for config in old[:keep]))
    urls = {url for model in observed.models.values() if model.name in used for url in model.data}
    needed = {key for upload in desired.uploads for key in upload.keys}
    why = "no generation that is kept uses it"
    steps = [_delete_config(config, "it is an old generation") for config in old[keep:]]
    for bucket in observed.buckets:
        keys = [
            key
            for key in sorted(bucket.objects)
            if resources.is_object(key, bucket.folder)
            and not (bucket.name == desired.bucket and key in needed)
            and not any(f"s3://{bucket.name}/{key}".startswith(url) for url in urls)
        ]
        steps += _delete_objects(bucket.name, keys, why)
    return steps + [_delete_model(model, why) for model in models if model.name not in used]


def _abort_incomplete_uploads(observed: Observed) -> Iterator[Step]:
    """Abort uploads that were begun and not finished: their parts are useless, and are paid for."""
    for bucket in observed.buckets:
        for upload in bucket.incomplete_uploads:
            request = {"Bucket": upload.bucket, "Key": upload.key, "UploadId": upload.upload_id}
            name = f"s3://{upload.bucket}/{upload.key}"
            why = "it was begun and never finished"
            yield Step("delete", "AbortMultipartUpload", "incomplete upload", name, request, why, service="s3")


def _delete_endpoint(name: str, why: str) -> Step:
    """Delete an endpoint."""
    return Step("delete", "DeleteEndpoint", "endpoint", name, {"EndpointName": name}, why)


def _wait_for_endpoint(name: str, until: str, why: str) -> Step:
    """Wait until an endpoint is "deleted", "settled", or in service with the configuration of this name."""
    return Step("wait", "DescribeEndpoint", "endpoint", name, {"EndpointName": name}, why, until=until)


def _delete_config(config: ObservedConfig, why: str) -> Step:
    request = {"EndpointConfigName": config.name}
    return Step("delete", "DeleteEndpointConfig", "endpoint configuration", config.name, request, why)


def _delete_model(model: ObservedModel, why: str) -> Step:
    return Step("delete", "DeleteModel", "model", model.name, {"ModelName": model.name}, why)


def _delete_objects(bucket: str, keys: Sequence[str], why: str) -> Iterator[Step]:
    for start in range(0, len(keys), S3_DELETED_OBJECTS.value):
        batch = keys[start : start + S3_DELETED_OBJECTS.value]
        name = f"s3://{bucket}/{batch[0]}" + (f" and {len(batch) - 1} more" if len(batch) > 1 else "")
        request = {"Bucket": bucket, "Delete": {"Objects": [{"Key": key} for key in batch], "Quiet": True}}
        yield Step("delete", "DeleteObjects", "object", name, request, why, service="s3")
