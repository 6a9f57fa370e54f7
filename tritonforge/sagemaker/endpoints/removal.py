"""What a deployment no longer needs: its old generations, its half uploads, or all of it. No I/O.

Only what carries the deployment's tag is removed, and in S3 only keys of the form that it gives: DIGEST/... below its
own folder. Objects go before the models that name them, so that a removal that was stopped finds them again.
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

__all__ = [
    "abort_incomplete_uploads",
    "belongs_to",
    "delete_endpoint",
    "list_old_generations",
    "plan_removal",
    "prune_generations",
    "wait_deleted",
]


def plan_removal(name: str, observed: Observed) -> Plan:
    """The steps that remove everything of a deployment; what else there is under its name is noted, and stays."""
    steps: list[Step] = []
    notes: list[str] = []
    configs, models = _own(name, observed)
    endpoint = observed.endpoint
    if endpoint is not None and not belongs_to(endpoint, observed, name):
        notes.append(
            f"the endpoint {name} does not carry the tag {resources.DEPLOYMENT}={name}: it is not ours, and stays"
        )
    else:
        steps += _remove_endpoint(name, observed)
    steps += [_delete_config(each, "it is removed") for each in configs]
    steps += abort_incomplete_uploads(observed)
    for bucket in observed.buckets:
        keys = [key for key in sorted(bucket.objects) if resources.is_object(key, bucket.folder)]
        steps += _delete_objects(bucket.name, keys, "it is removed")
    steps += [_delete_model(each, "it is removed") for each in models]
    left = sorted(
        f"s3://{bucket.name}/{key}"
        for bucket in observed.buckets
        for key in bucket.objects
        if not resources.is_object(key, bucket.folder)
    )
    notes += [f"{each} is not tritonforge's, and stays" for each in left]
    return Plan(name=name, region=observed.region, account=observed.account, steps=tuple(steps), notes=tuple(notes))


def belongs_to(endpoint: ObservedEndpoint, observed: Observed, name: str) -> bool:
    """Whether an endpoint is the deployment's: by its tag, or, where somebody took that off, by its configuration."""
    if is_owned(endpoint.tags, name):
        return True
    config = observed.configs.get(endpoint.config)
    foreign = resources.DEPLOYMENT in endpoint.tags
    return not foreign and config is not None and resources.is_config(name, config.name) and is_owned(config.tags, name)


def _remove_endpoint(name: str, observed: Observed) -> Iterator[Step]:
    why = "it is removed"
    alarms = sorted(each["AlarmName"] for each in observed.alarms)
    if alarms:
        yield scalable_targets.delete_alarms(alarms, why)
    for target in observed.targets:
        yield scalable_targets.deregister(target, why)
    endpoint = observed.endpoint
    if endpoint is None:
        return
    if endpoint.status in IN_TRANSITION - {"Deleting"}:
        yield _wait_settled(name, f"it is {endpoint.status}, and can be deleted when that is over")
    if endpoint.status != "Deleting":
        yield delete_endpoint(name, why)
    yield wait_deleted(name, "so that nothing uses what follows")


def _own(name: str, observed: Observed) -> tuple[list[ObservedConfig], list[ObservedModel]]:
    """The configurations and models that carry the deployment's tag, the newest first."""
    configs = [each for each in observed.configs.values() if is_owned(each.tags, name)]
    models = [each for each in observed.models.values() if is_owned(each.tags, name)]
    configs.sort(key=lambda each: (each.created, each.name), reverse=True)
    models.sort(key=lambda each: (each.created, each.name), reverse=True)
    return configs, models


def list_old_generations(name: str, observed: Observed, *, kept: Collection[str]) -> tuple[Generation, ...]:
    """The configurations of the deployment but for those that are ``kept``, the newest first."""
    configs, _ = _own(name, observed)
    return tuple(
        Generation(name=each.name, created=each.created, models=tuple(sorted(each.models)))
        for each in configs
        if each.name not in kept
    )


def prune_generations(name: str, wanted: DesiredResources, observed: Observed, *, keep: int) -> list[Step]:
    """Remove all old generations but the newest ``keep``: configurations, then objects, then models."""
    configs, models = _own(name, observed)
    old = [each for each in configs if each.name != wanted.config_name]
    going = old[keep:]
    used = set(wanted.models)
    for each in old[:keep]:
        used |= each.models
    unused = [each for each in models if each.name not in used]
    urls = {url for each in observed.models.values() if each.name in used for url in each.data}
    needed = {key for upload in wanted.uploads for key in upload.keys}
    steps = [_delete_config(each, "it is an old generation") for each in going]
    for bucket in observed.buckets:
        place = f"s3://{bucket.name}/"
        keys = [
            key
            for key in sorted(bucket.objects)
            if resources.is_object(key, bucket.folder)
            and not (bucket.name == wanted.bucket and key in needed)
            and not any(f"{place}{key}".startswith(url) for url in urls)
        ]
        steps += _delete_objects(bucket.name, keys, "no generation that is kept uses it")
    steps += [_delete_model(each, "no generation that is kept uses it") for each in unused]
    return steps


def abort_incomplete_uploads(observed: Observed) -> Iterator[Step]:
    """Abort what was begun and not finished: nobody can use its parts, and they are paid for."""
    for bucket in observed.buckets:
        for each in bucket.half_uploads:
            yield Step(
                action="delete",
                service="s3",
                operation="AbortMultipartUpload",
                kind="half upload",
                name=f"s3://{each.bucket}/{each.key}",
                request={"Bucket": each.bucket, "Key": each.key, "UploadId": each.upload_id},
                why="it was begun and never finished",
            )


def delete_endpoint(name: str, why: str) -> Step:
    """Delete an endpoint."""
    return Step(
        action="delete",
        service="sagemaker",
        operation="DeleteEndpoint",
        kind="endpoint",
        name=name,
        request={"EndpointName": name},
        why=why,
    )


def wait_deleted(name: str, why: str) -> Step:
    """Wait until an endpoint is no more."""
    return Step(
        action="wait",
        service="sagemaker",
        operation="DescribeEndpoint",
        kind="endpoint",
        name=name,
        request={"EndpointName": name},
        why=why,
        until="deleted",
    )


def _wait_settled(name: str, why: str) -> Step:
    return Step(
        action="wait",
        service="sagemaker",
        operation="DescribeEndpoint",
        kind="endpoint",
        name=name,
        request={"EndpointName": name},
        why=why,
        until="settled",
    )


def _delete_config(config: ObservedConfig, why: str) -> Step:
    return Step(
        action="delete",
        service="sagemaker",
        operation="DeleteEndpointConfig",
        kind="endpoint configuration",
        name=config.name,
        request={"EndpointConfigName": config.name},
        why=why,
    )


def _delete_model(model: ObservedModel, why: str) -> Step:
    return Step(
        action="delete",
        service="sagemaker",
        operation="DeleteModel",
        kind="model",
        name=model.name,
        request={"ModelName": model.name},
        why=why,
    )


def _delete_objects(bucket: str, keys: Sequence[str], why: str) -> Iterator[Step]:
    for start in range(0, len(keys), S3_DELETED_OBJECTS.value):
        some = keys[start : start + S3_DELETED_OBJECTS.value]
        yield Step(
            action="delete",
            service="s3",
            operation="DeleteObjects",
            kind="object",
            name=f"s3://{bucket}/{some[0]}" + (f" and {len(some) - 1} more" if len(some) > 1 else ""),
            request={"Bucket": bucket, "Delete": {"Objects": [{"Key": key} for key in some], "Quiet": True}},
            why=why,
        )
