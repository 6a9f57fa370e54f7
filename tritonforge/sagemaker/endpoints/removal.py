"""The removal of what a deployment no longer needs: old generations, incomplete uploads, or everything. No I/O.

Only what carries the deployment's tag is removed, and in S3 only keys of the form that it gives: DIGEST/... below its
own prefix. Objects go before the models that name them, so that an interrupted removal finds them again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from tritonforge.sagemaker.endpoints import resources, scalable_targets
from tritonforge.sagemaker.endpoints.desired import DesiredResources
from tritonforge.sagemaker.endpoints.resources import (
    IN_TRANSITION,
    Observed,
    ObservedConfig,
    ObservedEndpoint,
    ObservedModel,
    is_owned,
)
from tritonforge.sagemaker.plans.plan import Generation, Plan, Step
from tritonforge.triton.service_limits import S3_DELETED_OBJECTS

__all__ = ["abort_incomplete_uploads", "belongs_to", "delete_endpoint", "list_old_generations", "plan_removal",
           "prune_generations", "wait_for_endpoint"]  # fmt: skip


def plan_removal(name: str, observed: Observed) -> Plan:
    """Return the steps that remove everything of a deployment; what else exists under its name is noted and stays."""
    steps: list[Step] = []
    notes: list[str] = []
    configs, models = _list_owned(name, observed)
    why = "it is removed"
    if observed.endpoint is not None and not belongs_to(observed.endpoint, observed, name):
        notes.append(f"the endpoint {name} has no tag {resources.DEPLOYMENT}={name}: it belongs to others, and stays")
    else:
        steps += _remove_endpoint(name, observed)
    steps += [_delete_config(config, why) for config in configs]
    steps += abort_incomplete_uploads(observed)
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


def belongs_to(endpoint: ObservedEndpoint, observed: Observed, name: str) -> bool:
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
        yield wait_for_endpoint(name, "settled", f"it is {endpoint.status}, and can be deleted afterwards")
    if endpoint.status != "Deleting":
        yield delete_endpoint(name, why)
    yield wait_for_endpoint(name, "deleted", "so that nothing uses what follows")


def _list_owned(name: str, observed: Observed) -> tuple[list[ObservedConfig], list[ObservedModel]]:
    """Return the configurations and models that carry the deployment's tag, the newest first."""
    configs = [config for config in observed.configs.values() if is_owned(config.tags, name)]
    models = [model for model in observed.models.values() if is_owned(model.tags, name)]
    configs.sort(key=lambda config: (config.created, config.name), reverse=True)
    models.sort(key=lambda model: (model.created, model.name), reverse=True)
    return configs, models


def list_old_generations(name: str, observed: Observed, *, kept: Collection[str]) -> tuple[Generation, ...]:
    """Return the configurations of the deployment except those that are ``kept``, the newest first."""
    return tuple(
        Generation(name=config.name, created=config.created, models=tuple(sorted(config.models)))
        for config in _list_owned(name, observed)[0]
        if config.name not in kept
    )


def prune_generations(name: str, desired: DesiredResources, observed: Observed, *, keep: int) -> list[Step]:
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


def abort_incomplete_uploads(observed: Observed) -> Iterator[Step]:
    """Abort uploads that were begun and not finished: their parts are useless, and are paid for."""
    for bucket in observed.buckets:
        for upload in bucket.incomplete_uploads:
            request = {"Bucket": upload.bucket, "Key": upload.key, "UploadId": upload.upload_id}
            name = f"s3://{upload.bucket}/{upload.key}"
            why = "it was begun and never finished"
            yield Step("delete", "AbortMultipartUpload", "incomplete upload", name, request, why, service="s3")


def delete_endpoint(name: str, why: str) -> Step:
    """Delete an endpoint."""
    return Step("delete", "DeleteEndpoint", "endpoint", name, {"EndpointName": name}, why)


def wait_for_endpoint(name: str, until: str, why: str) -> Step:
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
