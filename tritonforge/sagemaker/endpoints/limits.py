"""Limits that AWS documents and its service model does not hold, each as a function of a request. No I/O.

The deployment asks before the first call, the emulator before it accepts one. What the service model holds (lengths,
patterns, enumerations, ranges) is `tritonforge.sagemaker.shapes`' to say. Sources stand at each: API = the reference
of the operation or structure, DG = the SageMaker developer guide.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

__all__ = ["BY_OPERATION", "Limit", "create_endpoint", "create_endpoint_config", "create_model", "exceeded"]

#: API ContainerDefinition.Environment: all keys and values together.
_ENVIRONMENT: Final = 32 * 1024
#: API ProductionVariantServerlessConfig.MemorySizeInMB: "in 1 GB increments".
_MEMORY_STEP: Final = 1024
#: API CapacitySize in TrafficRoutingConfig and RollingUpdatePolicy: percent of the variant's instances.
_HALF: Final = 50
_LEAST_LINEAR: Final = 10
_LEAST_ROLLING: Final = 5
_WHOLE: Final = 100


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit that a request exceeds: where in it, and the sentence."""

    path: tuple[str | int, ...]
    sentence: str

    @property
    def place(self) -> str:
        """The path as boto3's users write it: ``ProductionVariants[0].VariantName``."""
        text = ""
        for part in self.path:
            text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
        return text


def exceeded(operation: str, request: Mapping[str, Any]) -> tuple[Limit, ...]:
    """Every documented limit that a request of this operation exceeds; nothing for an operation without any.

    The request is taken to satisfy the service model; of one that does not, this says what it can.
    """
    judge = BY_OPERATION.get(operation)
    return () if judge is None else tuple(judge(request))


def create_model(request: Mapping[str, Any]) -> Iterator[Limit]:
    """``CreateModel``."""
    primary, several = request.get("PrimaryContainer"), request.get("Containers")
    # API CreateModel: PrimaryContainer, or Containers for a pipeline.
    if primary is not None and several is not None:
        yield Limit(("Containers",), "PrimaryContainer and Containers exclude each other; provide one of the two")
    elif primary is None and several is None:
        yield Limit(("PrimaryContainer",), "a model needs PrimaryContainer or Containers; provide one of the two")
    if request.get("InferenceExecutionConfig") and several is None:
        yield Limit(("InferenceExecutionConfig",), "InferenceExecutionConfig is for models with Containers")
    places: list[tuple[tuple[str | int, ...], Mapping[str, Any]]] = []
    if isinstance(primary, Mapping):
        places.append((("PrimaryContainer",), primary))
    for index, each in enumerate(several or ()):
        places.append((("Containers", index), each))
    for path, container in places:
        yield from _container(container, path)
    yield from _pipeline(several or (), (request.get("InferenceExecutionConfig") or {}).get("Mode"))


def _pipeline(containers: Sequence[Mapping[str, Any]], mode: str | None) -> Iterator[Limit]:
    hostnames = [container.get("ContainerHostname") for container in containers]
    if any(hostnames) and not all(hostnames):
        # API ContainerDefinition.ContainerHostname: for every container of a pipeline, or for none.
        index = hostnames.index(None)
        yield Limit(
            ("Containers", index, "ContainerHostname"),
            "ContainerHostname is given for some containers; give it for every container, or for none",
        )
    for index, hostname in enumerate(hostnames):
        if hostname and hostname in hostnames[:index]:
            yield Limit(
                ("Containers", index, "ContainerHostname"),
                f"two containers have the hostname {hostname!r}; the hostnames must differ",
            )
    if mode == "Direct" and containers and not any(hostnames):
        # DG "Invoke a multi-container endpoint with direct invocation": requests name a container by its hostname.
        yield Limit(("Containers",), "containers for direct invocation need ContainerHostname")


def _container(container: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Limit]:
    # API ContainerDefinition: Image, unless the container is of a model package.
    if not container.get("Image") and not container.get("ModelPackageName"):
        yield Limit((*path, "Image"), "a container needs Image, or ModelPackageName")
    environment = container.get("Environment") or {}
    size = sum(len(str(key)) + len(str(value)) for key, value in environment.items())
    if size > _ENVIRONMENT:
        yield Limit(
            (*path, "Environment"),
            f"the keys and values of Environment have {size} characters together; at most {_ENVIRONMENT} are allowed",
        )
    source, url = container.get("ModelDataSource"), container.get("ModelDataUrl")
    if source and url:
        yield Limit((*path, "ModelDataSource"), "ModelDataUrl and ModelDataSource exclude each other; provide one")
    multi = container.get("Mode") == "MultiModel"
    if multi and source:
        # DG "Deploy uncompressed models": not with multi-model endpoints.
        yield Limit((*path, "ModelDataSource"), "a multi-model container takes no ModelDataSource; use ModelDataUrl")
    elif multi and not url:
        yield Limit((*path, "ModelDataUrl"), "a multi-model container needs ModelDataUrl, the prefix of its models")
    if container.get("MultiModelConfig") and not multi:
        yield Limit((*path, "MultiModelConfig"), "MultiModelConfig is for containers with Mode MultiModel")
    data = source.get("S3DataSource") if isinstance(source, Mapping) else None
    if isinstance(data, Mapping):
        yield from _data(data, (*path, "ModelDataSource", "S3DataSource"))


def _data(data: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Limit]:
    kind, compression = data.get("S3DataType"), data.get("CompressionType")
    # API S3ModelDataSource.S3DataType and .CompressionType.
    if kind == "S3Prefix" and not str(data.get("S3Uri", "")).endswith("/"):
        yield Limit((*path, "S3Uri"), "an S3Uri with S3DataType S3Prefix must end with '/'")
    if kind == "S3Prefix" and compression == "Gzip":
        yield Limit((*path, "CompressionType"), "CompressionType Gzip goes with S3DataType S3Object: one .tar.gz")


def create_endpoint_config(
    request: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> Iterator[Limit]:
    """``CreateEndpointConfig``; with ``models`` (``CreateModel`` requests by name) also what depends on them."""
    variants: Sequence[Mapping[str, Any]] = request.get("ProductionVariants") or ()
    shadows: Sequence[Mapping[str, Any]] = request.get("ShadowProductionVariants") or ()
    # API CreateEndpointConfig.ShadowProductionVariants.
    if shadows and (len(variants), len(shadows)) != (1, 1):
        yield Limit(
            ("ShadowProductionVariants",), "with shadow variants there is one production and one shadow variant"
        )
    names: set[str] = set()
    for list_name, each_list in (("ProductionVariants", variants), ("ShadowProductionVariants", shadows)):
        for index, variant in enumerate(each_list):
            path = (list_name, index)
            name = str(variant.get("VariantName"))
            if name in names:
                yield Limit((*path, "VariantName"), f"two variants are named {name!r}; the names must differ")
            names.add(name)
            yield from _variant(variant, path)
            if variant.get("ServerlessConfig"):
                yield from _serverless(variant, path, models.get(str(variant.get("ModelName"))))
    if any(each.get("ServerlessConfig") for each in (*variants, *shadows)):
        # DG "Deploy models with Serverless Inference", feature exclusions.
        if len(variants) + len(shadows) > 1:
            yield Limit(("ProductionVariants",), "a serverless endpoint has one production variant and no shadow")
        for name, what in (
            ("DataCaptureConfig", "data capture"),
            ("AsyncInferenceConfig", "asynchronous inference"),
            ("VpcConfig", "a VPC"),
        ):
            if request.get(name):
                yield Limit((name,), f"a serverless endpoint has no {what}")
        if request.get("EnableNetworkIsolation"):
            yield Limit(("EnableNetworkIsolation",), "a serverless endpoint has no network isolation")


def _variant(variant: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Limit]:
    # API ProductionVariant: instances, pools of them, or serverless.
    ways = [name for name in ("InstanceType", "InstancePools", "ServerlessConfig") if variant.get(name)]
    if len(ways) > 1:
        yield Limit((*path, ways[1]), f"{ways[0]} and {ways[1]} exclude each other; provide one")
    elif not ways:
        yield Limit((*path, "InstanceType"), "a variant needs InstanceType, InstancePools or ServerlessConfig")
    count, scaling = variant.get("InitialInstanceCount"), variant.get("ManagedInstanceScaling")
    if count is None and ways == ["InstanceType"]:
        yield Limit((*path, "InitialInstanceCount"), "a variant with InstanceType needs InitialInstanceCount")
    if isinstance(scaling, Mapping):
        least, most = scaling.get("MinInstanceCount"), scaling.get("MaxInstanceCount")
        if least is not None and most is not None and least > most:
            yield Limit(
                (*path, "ManagedInstanceScaling"), f"MinInstanceCount {least} is greater than MaxInstanceCount {most}"
            )


def _serverless(
    variant: Mapping[str, Any], path: tuple[str | int, ...], model: Mapping[str, Any] | None
) -> Iterator[Limit]:
    config = variant["ServerlessConfig"]
    memory, most, ready = (config.get(name) for name in ("MemorySizeInMB", "MaxConcurrency", "ProvisionedConcurrency"))
    here = (*path, "ServerlessConfig")
    if isinstance(memory, int) and memory % _MEMORY_STEP:
        yield Limit((*here, "MemorySizeInMB"), f"MemorySizeInMB {memory} is not a multiple of {_MEMORY_STEP}")
    if ready is not None and most is not None and ready > most:
        yield Limit(
            (*here, "ProvisionedConcurrency"), f"ProvisionedConcurrency {ready} is greater than MaxConcurrency {most}"
        )
    for name in (
        "InitialInstanceCount",
        "InferenceAmiVersion",
        "ManagedInstanceScaling",
        "VolumeSizeInGB",
        "AcceleratorType",
        "EnableSSMAccess",
        "RoutingConfig",
    ):
        if variant.get(name):
            yield Limit((*path, name), f"a serverless variant has no {name}")
    if model is None:
        return
    # DG "Deploy models with Serverless Inference", feature exclusions; "Deploy uncompressed models".
    for container in (model.get("PrimaryContainer"), *(model.get("Containers") or ())):
        if isinstance(container, Mapping) and container.get("Mode") == "MultiModel":
            yield Limit((*path, "ModelName"), "a serverless variant takes no multi-model container")
        if isinstance(container, Mapping) and container.get("ModelDataSource"):
            yield Limit((*path, "ModelName"), "a serverless variant takes no model with ModelDataSource")
    if len(model.get("Containers") or ()) > 1:
        yield Limit((*path, "ModelName"), "a serverless variant takes no inference pipeline")
    if model.get("VpcConfig"):
        yield Limit((*path, "ModelName"), "a serverless variant takes no model with VpcConfig")
    if model.get("EnableNetworkIsolation"):
        yield Limit((*path, "ModelName"), "a serverless variant takes no model with network isolation")


def create_endpoint(request: Mapping[str, Any]) -> Iterator[Limit]:
    """``CreateEndpoint`` and ``UpdateEndpoint``."""
    if request.get("ExcludeRetainedVariantProperties") and not request.get("RetainAllVariantProperties"):
        yield Limit(
            ("ExcludeRetainedVariantProperties",),
            "ExcludeRetainedVariantProperties goes with RetainAllVariantProperties true",
        )
    config = request.get("DeploymentConfig")
    if not isinstance(config, Mapping):
        return
    blue_green, rolling = config.get("BlueGreenUpdatePolicy"), config.get("RollingUpdatePolicy")
    # API DeploymentConfig: "you can only specify one".
    if blue_green and rolling:
        yield Limit(
            ("DeploymentConfig", "RollingUpdatePolicy"),
            "BlueGreenUpdatePolicy and RollingUpdatePolicy exclude each other; provide one",
        )
    if isinstance(blue_green, Mapping):
        yield from _blue_green(blue_green, ("DeploymentConfig", "BlueGreenUpdatePolicy"))
    if isinstance(rolling, Mapping):
        yield from _rolling(rolling, ("DeploymentConfig", "RollingUpdatePolicy"))


def _blue_green(policy: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Limit]:
    routing: Mapping[str, Any] = policy.get("TrafficRoutingConfiguration") or {}
    here = (*path, "TrafficRoutingConfiguration")
    kind = routing.get("Type")
    for name, wanted, least in (("CanarySize", "CANARY", 1), ("LinearStepSize", "LINEAR", _LEAST_LINEAR)):
        size = routing.get(name)
        if size and kind != wanted:
            yield Limit((*here, name), f"{name} goes with Type {wanted}")
        elif kind == wanted and not size:
            yield Limit((*here, name), f"Type {wanted} needs {name}")
        elif size:
            yield from _share(size, (*here, name), least=least)
    limit = policy.get("MaximumExecutionTimeoutInSeconds")
    waits = int(policy.get("TerminationWaitInSeconds") or 0) + _steps(routing) * int(
        routing.get("WaitIntervalInSeconds") or 0
    )
    if limit is not None and limit <= waits:
        yield Limit(
            (*path, "MaximumExecutionTimeoutInSeconds"),
            f"MaximumExecutionTimeoutInSeconds {limit} must be larger than all waits together, which are {waits} s",
        )


def _steps(routing: Mapping[str, Any]) -> int:
    """How often the interval is waited for: once after a canary, between the steps of a linear shift."""
    if routing.get("Type") == "CANARY":
        return 1
    size = routing.get("LinearStepSize") or {}
    if routing.get("Type") == "LINEAR" and size.get("Type") == "CAPACITY_PERCENT" and size.get("Value"):
        return max(1, -(-_WHOLE // int(size["Value"])) - 1)
    return 0 if routing.get("Type") == "ALL_AT_ONCE" else 1


def _rolling(policy: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Limit]:
    yield from _share(policy.get("MaximumBatchSize") or {}, (*path, "MaximumBatchSize"), least=_LEAST_ROLLING)
    back = policy.get("RollbackMaximumBatchSize") or {}
    if back.get("Type") == "CAPACITY_PERCENT" and back.get("Value", 1) > _WHOLE:
        yield Limit((*path, "RollbackMaximumBatchSize"), "RollbackMaximumBatchSize is at most 100 % of the capacity")
    limit, wait = policy.get("MaximumExecutionTimeoutInSeconds"), int(policy.get("WaitIntervalInSeconds") or 0)
    if limit is not None and limit <= wait:
        yield Limit(
            (*path, "MaximumExecutionTimeoutInSeconds"),
            f"MaximumExecutionTimeoutInSeconds {limit} must be larger than WaitIntervalInSeconds {wait}",
        )


def _share(size: Mapping[str, Any], path: tuple[str | int, ...], *, least: int) -> Iterator[Limit]:
    value = size.get("Value")
    if size.get("Type") == "CAPACITY_PERCENT" and isinstance(value, int) and not least <= value <= _HALF:
        yield Limit((*path, "Value"), f"{path[-1]} is {least} to {_HALF} % of the capacity, not {value} %")


def register_scalable_target(request: Mapping[str, Any]) -> Iterator[Limit]:
    """``RegisterScalableTarget``."""
    least, most = request.get("MinCapacity"), request.get("MaxCapacity")
    # API RegisterScalableTarget: the range.
    if least is not None and most is not None and least > most:
        yield Limit(("MinCapacity",), f"MinCapacity {least} is greater than MaxCapacity {most}")
    if least is not None and least < 0:
        yield Limit(("MinCapacity",), f"MinCapacity {least} is less than 0")


def put_scaling_policy(request: Mapping[str, Any]) -> Iterator[Limit]:
    """``PutScalingPolicy``."""
    wanted = {
        "TargetTrackingScaling": "TargetTrackingScalingPolicyConfiguration",
        "StepScaling": "StepScalingPolicyConfiguration",
        "PredictiveScaling": "PredictiveScalingPolicyConfiguration",
    }.get(str(request.get("PolicyType")))
    if wanted is not None and not request.get(wanted):
        yield Limit((wanted,), f"PolicyType {request['PolicyType']} needs {wanted}")
    tracking = request.get("TargetTrackingScalingPolicyConfiguration")
    if isinstance(tracking, Mapping):
        names = ("PredefinedMetricSpecification", "CustomizedMetricSpecification")
        if sum(bool(tracking.get(name)) for name in names) != 1:
            yield Limit(
                ("TargetTrackingScalingPolicyConfiguration",),
                f"target tracking needs one metric: {names[0]} or {names[1]}",
            )


#: The judges by the name of the operation.
BY_OPERATION: Final[Mapping[str, Callable[[Mapping[str, Any]], Iterator[Limit]]]] = MappingProxyType(
    {
        "CreateEndpoint": create_endpoint,
        "CreateEndpointConfig": create_endpoint_config,
        "CreateModel": create_model,
        "PutScalingPolicy": put_scaling_policy,
        "RegisterScalableTarget": register_scalable_target,
        "UpdateEndpoint": create_endpoint,
    }
)
