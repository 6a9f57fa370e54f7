"""The limits of requests that AWS documents but its service model does not contain, by operation. No I/O.

A row of the registry names the check of an operation's requests and the pages of AWS that state its limits. The source
of a single rule is beside it (API = the reference of the operation or structure, DG = the SageMaker developer guide);
numbers are in `tritonforge.triton.service_limits`. Plans, the client and the emulator read the registry, so that a
request that one of them rejects is rejected by all, with the same sentence. What the service model contains (lengths,
patterns, enumerations, ranges) is checked by `tritonforge.sagemaker.service_model`.

>>> [violation.place for violation in check_limits("CreateModel", {"ModelName": "digits"})]
['PrimaryContainer']
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from tritonforge.sagemaker.service_model import Violation
from tritonforge.triton.service_limits import (
    ENVIRONMENT_SIZE,
    LEAST_LINEAR_SHARE,
    LEAST_ROLLING_SHARE,
    SERVERLESS_MEMORY_STEP,
    TRAFFIC_SHARE,
)

__all__ = ["OPERATIONS", "DocumentedLimits", "check_limits"]


class DocumentedLimits(NamedTuple):
    """What AWS documents about the requests of one operation.

    ``check`` is the generator function of the violations, as ``module:function``: it is imported when a request of the
    operation is checked. ``source`` names the pages of AWS: *API* the reference of an operation or structure, *DG* the
    SageMaker developer guide.
    """

    check: str
    source: str

    def load_check(self) -> Callable[..., Iterable[Violation]]:
        """Import the check."""
        function: Callable[..., Iterable[Violation]] = resolve_name(self.check)
        return function


_UPDATE: Final = DocumentedLimits(
    f"{__name__}:check_endpoint",
    "API DeploymentConfig, BlueGreenUpdatePolicy, RollingUpdatePolicy, TrafficRoutingConfig",
)

#: The operations whose requests have documented limits. Of one without a row everything is allowed.
OPERATIONS: Final[Mapping[str, DocumentedLimits]] = MappingProxyType(
    {
        "CreateAlgorithm": DocumentedLimits(
            "tritonforge.sagemaker.jobs.job_limits:check_algorithm",
            "API CreateAlgorithm, TrainingSpecification, InferenceSpecification, AlgorithmValidationSpecification",
        ),
        "CreateEndpoint": _UPDATE,
        "CreateEndpointConfig": DocumentedLimits(
            f"{__name__}:check_endpoint_config",
            "API CreateEndpointConfig, ProductionVariant; DG Deploy models with Serverless Inference",
        ),
        "CreateModel": DocumentedLimits(
            f"{__name__}:check_model",
            "API CreateModel, ContainerDefinition, S3ModelDataSource; DG Deploy uncompressed models, Invoke a "
            "multi-container endpoint with direct invocation",
        ),
        "CreateModelPackage": DocumentedLimits(
            "tritonforge.sagemaker.jobs.job_limits:check_model_package",
            "API CreateModelPackage, ModelPackageContainerDefinition, ModelPackageValidationSpecification",
        ),
        "CreateTrainingJob": DocumentedLimits(
            "tritonforge.sagemaker.jobs.job_limits:check_training_job",
            "API CreateTrainingJob, ResourceConfig, StoppingCondition; DG Train Using SageMaker Managed Warm Pools",
        ),
        "CreateTransformJob": DocumentedLimits(
            "tritonforge.sagemaker.jobs.job_limits:check_transform_job",
            "API CreateTransformJob, TransformInput, TransformResources, DataProcessing",
        ),
        "PutScalingPolicy": DocumentedLimits(
            f"{__name__}:check_scaling_policy", "API PutScalingPolicy, TargetTrackingScalingPolicyConfiguration"
        ),
        "RegisterScalableTarget": DocumentedLimits(f"{__name__}:check_scalable_target", "API RegisterScalableTarget"),
        "UpdateEndpoint": _UPDATE,
    }
)


def check_limits(operation: str, request: Mapping[str, Any], **context: Any) -> tuple[Violation, ...]:
    """Return every documented limit that a request of an operation exceeds.

    The request should satisfy the service model; of one that does not, only a part is checked.

    Args:
        operation: AWS's name of the operation.
        request: the members of the request.
        context: what else the check reads: for CreateEndpointConfig ``models``, its CreateModel requests by name.
    """
    documented = OPERATIONS.get(operation)
    return () if documented is None else tuple(documented.load_check()(request, **context))


def check_model(request: Mapping[str, Any]) -> Iterator[Violation]:
    """Check ``CreateModel``."""
    primary, several = request.get("PrimaryContainer"), request.get("Containers")
    # API CreateModel: PrimaryContainer, or Containers for a pipeline.
    if primary is not None and several is not None:
        yield Violation(("Containers",), "PrimaryContainer and Containers exclude each other; provide one of the two")
    elif primary is None and several is None:
        yield Violation(("PrimaryContainer",), "a model needs PrimaryContainer or Containers; provide one of the two")
    if request.get("InferenceExecutionConfig") and several is None:
        yield Violation(("InferenceExecutionConfig",), "InferenceExecutionConfig is for models with Containers")
    places: list[tuple[tuple[str | int, ...], Mapping[str, Any]]] = []
    if isinstance(primary, Mapping):
        places.append((("PrimaryContainer",), primary))
    for index, container in enumerate(several or ()):
        places.append((("Containers", index), container))
    for path, container in places:
        yield from _check_container(container, path)
    yield from _check_hostnames(several or (), (request.get("InferenceExecutionConfig") or {}).get("Mode"))


def _check_hostnames(containers: Sequence[Mapping[str, Any]], mode: str | None) -> Iterator[Violation]:
    hostnames = [container.get("ContainerHostname") for container in containers]
    if any(hostnames) and not all(hostnames):
        # API ContainerDefinition.ContainerHostname: for every container of a pipeline, or for none.
        index = hostnames.index(None)
        yield Violation(
            ("Containers", index, "ContainerHostname"),
            "ContainerHostname is given for some containers; give it for every container, or for none",
        )
    for index, hostname in enumerate(hostnames):
        if hostname and hostname in hostnames[:index]:
            yield Violation(
                ("Containers", index, "ContainerHostname"),
                f"two containers have the hostname {hostname!r}; the hostnames must differ",
            )
    if mode == "Direct" and containers and not any(hostnames):
        # DG "Invoke a multi-container endpoint with direct invocation": requests name a container by its hostname.
        yield Violation(("Containers",), "containers for direct invocation need ContainerHostname")


def _check_container(container: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Violation]:
    # API ContainerDefinition: Image, unless the container is of a model package.
    if not container.get("Image") and not container.get("ModelPackageName"):
        yield Violation((*path, "Image"), "a container needs Image, or ModelPackageName")
    environment = container.get("Environment") or {}
    size = sum(len(str(key)) + len(str(value)) for key, value in environment.items())
    if size > ENVIRONMENT_SIZE.value:
        yield Violation(
            (*path, "Environment"),
            f"the keys and values of Environment have {size} characters; at most {ENVIRONMENT_SIZE.value} are allowed",
        )
    source, url = container.get("ModelDataSource"), container.get("ModelDataUrl")
    if source and url:
        yield Violation((*path, "ModelDataSource"), "ModelDataUrl and ModelDataSource exclude each other; provide one")
    multi = container.get("Mode") == "MultiModel"
    if multi and source:
        # DG "Deploy uncompressed models": not with multi-model endpoints.
        yield Violation(
            (*path, "ModelDataSource"), "a multi-model container takes no ModelDataSource; use ModelDataUrl"
        )
    elif multi and not url:
        yield Violation((*path, "ModelDataUrl"), "a multi-model container needs ModelDataUrl, the prefix of its models")
    if container.get("MultiModelConfig") and not multi:
        yield Violation((*path, "MultiModelConfig"), "MultiModelConfig is for containers with Mode MultiModel")
    data = source.get("S3DataSource") if isinstance(source, Mapping) else None
    if isinstance(data, Mapping):
        yield from _check_data_source(data, (*path, "ModelDataSource", "S3DataSource"))


def _check_data_source(data: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Violation]:
    kind, compression = data.get("S3DataType"), data.get("CompressionType")
    # API S3ModelDataSource.S3DataType and .CompressionType.
    if kind == "S3Prefix" and not str(data.get("S3Uri", "")).endswith("/"):
        yield Violation((*path, "S3Uri"), "an S3Uri with S3DataType S3Prefix must end with '/'")
    if kind == "S3Prefix" and compression == "Gzip":
        yield Violation((*path, "CompressionType"), "CompressionType Gzip goes with S3DataType S3Object: one .tar.gz")


def check_endpoint_config(
    request: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> Iterator[Violation]:
    """Check ``CreateEndpointConfig``; with ``models`` (``CreateModel`` requests by name) also what depends on them."""
    variants: Sequence[Mapping[str, Any]] = request.get("ProductionVariants") or ()
    shadows: Sequence[Mapping[str, Any]] = request.get("ShadowProductionVariants") or ()
    # API CreateEndpointConfig.ShadowProductionVariants.
    if shadows and (len(variants), len(shadows)) != (1, 1):
        yield Violation(
            ("ShadowProductionVariants",), "with shadow variants there is one production and one shadow variant"
        )
    names: set[str] = set()
    for list_name, listed in (("ProductionVariants", variants), ("ShadowProductionVariants", shadows)):
        for index, variant in enumerate(listed):
            path = (list_name, index)
            name = str(variant.get("VariantName"))
            if name in names:
                yield Violation((*path, "VariantName"), f"two variants are named {name!r}; the names must differ")
            names.add(name)
            yield from _check_variant(variant, path)
            if variant.get("ServerlessConfig"):
                yield from _check_serverless(variant, path, models.get(str(variant.get("ModelName"))))
    if any(variant.get("ServerlessConfig") for variant in (*variants, *shadows)):
        # DG "Deploy models with Serverless Inference", feature exclusions.
        if len(variants) + len(shadows) > 1:
            yield Violation(("ProductionVariants",), "a serverless endpoint has one production variant and no shadow")
        for name, feature in (
            ("DataCaptureConfig", "data capture"),
            ("AsyncInferenceConfig", "asynchronous inference"),
            ("VpcConfig", "a VPC"),
        ):
            if request.get(name):
                yield Violation((name,), f"a serverless endpoint has no {feature}")
        if request.get("EnableNetworkIsolation"):
            yield Violation(("EnableNetworkIsolation",), "a serverless endpoint has no network isolation")


def _check_variant(variant: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Violation]:
    # API ProductionVariant: instances, pools of them, or serverless.
    ways = [name for name in ("InstanceType", "InstancePools", "ServerlessConfig") if variant.get(name)]
    if len(ways) > 1:
        yield Violation((*path, ways[1]), f"{ways[0]} and {ways[1]} exclude each other; provide one")
    elif not ways:
        yield Violation((*path, "InstanceType"), "a variant needs InstanceType, InstancePools or ServerlessConfig")
    count, scaling = variant.get("InitialInstanceCount"), variant.get("ManagedInstanceScaling")
    if count is None and ways == ["InstanceType"]:
        yield Violation((*path, "InitialInstanceCount"), "a variant with InstanceType needs InitialInstanceCount")
    if isinstance(scaling, Mapping):
        least, most = scaling.get("MinInstanceCount"), scaling.get("MaxInstanceCount")
        if least is not None and most is not None and least > most:
            yield Violation(
                (*path, "ManagedInstanceScaling"), f"MinInstanceCount {least} is greater than MaxInstanceCount {most}"
            )


def _check_serverless(
    variant: Mapping[str, Any], path: tuple[str | int, ...], model: Mapping[str, Any] | None
) -> Iterator[Violation]:
    config = variant["ServerlessConfig"]
    memory, most, ready = (config.get(name) for name in ("MemorySizeInMB", "MaxConcurrency", "ProvisionedConcurrency"))
    here = (*path, "ServerlessConfig")
    if isinstance(memory, int) and memory % SERVERLESS_MEMORY_STEP.value:
        yield Violation(
            (*here, "MemorySizeInMB"),
            f"MemorySizeInMB {memory} is not a multiple of {SERVERLESS_MEMORY_STEP.value}",
        )
    if ready is not None and most is not None and ready > most:
        yield Violation(
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
            yield Violation((*path, name), f"a serverless variant has no {name}")
    if model is None:
        return
    # DG "Deploy models with Serverless Inference", feature exclusions; "Deploy uncompressed models".
    for container in (model.get("PrimaryContainer"), *(model.get("Containers") or ())):
        if isinstance(container, Mapping) and container.get("Mode") == "MultiModel":
            yield Violation((*path, "ModelName"), "a serverless variant takes no multi-model container")
        if isinstance(container, Mapping) and container.get("ModelDataSource"):
            yield Violation((*path, "ModelName"), "a serverless variant takes no model with ModelDataSource")
    if len(model.get("Containers") or ()) > 1:
        yield Violation((*path, "ModelName"), "a serverless variant takes no inference pipeline")
    if model.get("VpcConfig"):
        yield Violation((*path, "ModelName"), "a serverless variant takes no model with VpcConfig")
    if model.get("EnableNetworkIsolation"):
        yield Violation((*path, "ModelName"), "a serverless variant takes no model with network isolation")


def check_endpoint(request: Mapping[str, Any]) -> Iterator[Violation]:
    """Check ``CreateEndpoint`` and ``UpdateEndpoint``."""
    if request.get("ExcludeRetainedVariantProperties") and not request.get("RetainAllVariantProperties"):
        yield Violation(
            ("ExcludeRetainedVariantProperties",),
            "ExcludeRetainedVariantProperties goes with RetainAllVariantProperties true",
        )
    config = request.get("DeploymentConfig")
    if not isinstance(config, Mapping):
        return
    blue_green, rolling = config.get("BlueGreenUpdatePolicy"), config.get("RollingUpdatePolicy")
    # API DeploymentConfig: "you can only specify one".
    if blue_green and rolling:
        yield Violation(
            ("DeploymentConfig", "RollingUpdatePolicy"),
            "BlueGreenUpdatePolicy and RollingUpdatePolicy exclude each other; provide one",
        )
    if isinstance(blue_green, Mapping):
        yield from _check_blue_green(blue_green, ("DeploymentConfig", "BlueGreenUpdatePolicy"))
    if isinstance(rolling, Mapping):
        yield from _check_rolling(rolling, ("DeploymentConfig", "RollingUpdatePolicy"))


def _check_blue_green(policy: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Violation]:
    routing: Mapping[str, Any] = policy.get("TrafficRoutingConfiguration") or {}
    here = (*path, "TrafficRoutingConfiguration")
    kind = routing.get("Type")
    for name, routing_type, least in (
        ("CanarySize", "CANARY", 1),
        ("LinearStepSize", "LINEAR", LEAST_LINEAR_SHARE.value),
    ):
        size = routing.get(name)
        if size and kind != routing_type:
            yield Violation((*here, name), f"{name} requires Type {routing_type}")
        elif kind == routing_type and not size:
            yield Violation((*here, name), f"Type {routing_type} requires {name}")
        elif size:
            yield from _check_share(size, (*here, name), least=least)
    limit = policy.get("MaximumExecutionTimeoutInSeconds")
    waits = int(policy.get("TerminationWaitInSeconds") or 0) + _count_waits(routing) * int(
        routing.get("WaitIntervalInSeconds") or 0
    )
    if limit is not None and limit <= waits:
        yield Violation(
            (*path, "MaximumExecutionTimeoutInSeconds"),
            f"MaximumExecutionTimeoutInSeconds {limit} must be larger than all waits together, which are {waits} s",
        )


def _count_waits(routing: Mapping[str, Any]) -> int:
    """Return how often the interval is waited for: once after a canary, between the steps of a linear shift."""
    if routing.get("Type") == "CANARY":
        return 1
    size = routing.get("LinearStepSize") or {}
    if routing.get("Type") == "LINEAR" and size.get("Type") == "CAPACITY_PERCENT" and size.get("Value"):
        return max(1, -(-100 // int(size["Value"])) - 1)
    return 0 if routing.get("Type") == "ALL_AT_ONCE" else 1


def _check_rolling(policy: Mapping[str, Any], path: tuple[str | int, ...]) -> Iterator[Violation]:
    yield from _check_share(
        policy.get("MaximumBatchSize") or {},
        (*path, "MaximumBatchSize"),
        least=LEAST_ROLLING_SHARE.value,
    )
    back = policy.get("RollbackMaximumBatchSize") or {}
    if back.get("Type") == "CAPACITY_PERCENT" and back.get("Value", 1) > 100:
        yield Violation(
            (*path, "RollbackMaximumBatchSize"), "RollbackMaximumBatchSize is at most 100 % of the capacity"
        )
    limit, wait = policy.get("MaximumExecutionTimeoutInSeconds"), int(policy.get("WaitIntervalInSeconds") or 0)
    if limit is not None and limit <= wait:
        yield Violation(
            (*path, "MaximumExecutionTimeoutInSeconds"),
            f"MaximumExecutionTimeoutInSeconds {limit} must be larger than WaitIntervalInSeconds {wait}",
        )


def _check_share(size: Mapping[str, Any], path: tuple[str | int, ...], *, least: int) -> Iterator[Violation]:
    value = size.get("Value")
    if size.get("Type") == "CAPACITY_PERCENT" and isinstance(value, int) and not least <= value <= TRAFFIC_SHARE.value:
        yield Violation(
            (*path, "Value"),
            f"{path[-1]} is {least} to {TRAFFIC_SHARE.value} % of the capacity, not {value} %",
        )


def check_scalable_target(request: Mapping[str, Any]) -> Iterator[Violation]:
    """Check ``RegisterScalableTarget``."""
    least, most = request.get("MinCapacity"), request.get("MaxCapacity")
    # API RegisterScalableTarget: the range.
    if least is not None and most is not None and least > most:
        yield Violation(("MinCapacity",), f"MinCapacity {least} is greater than MaxCapacity {most}")
    if least is not None and least < 0:
        yield Violation(("MinCapacity",), f"MinCapacity {least} is less than 0")


def check_scaling_policy(request: Mapping[str, Any]) -> Iterator[Violation]:
    """Check ``PutScalingPolicy``."""
    member = {
        "TargetTrackingScaling": "TargetTrackingScalingPolicyConfiguration",
        "StepScaling": "StepScalingPolicyConfiguration",
        "PredictiveScaling": "PredictiveScalingPolicyConfiguration",
    }.get(str(request.get("PolicyType")))
    if member is not None and not request.get(member):
        yield Violation((member,), f"PolicyType {request['PolicyType']} needs {member}")
    tracking = request.get("TargetTrackingScalingPolicyConfiguration")
    if isinstance(tracking, Mapping):
        names = ("PredefinedMetricSpecification", "CustomizedMetricSpecification")
        if sum(bool(tracking.get(name)) for name in names) != 1:
            yield Violation(
                ("TargetTrackingScalingPolicyConfiguration",),
                f"target tracking needs one metric: {names[0]} or {names[1]}",
            )
