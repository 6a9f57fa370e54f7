"""Documented limits of AWS as data: the one place where their numbers and sources are written down. No I/O.

Rules of the validation, the AWS client, the checks of requests (`tritonforge.sagemaker.limits`) and the emulator read
them from here. A source is a page of AWS: *API* names the reference of an operation or structure, *DG* the SageMaker
developer guide, *S3* the Amazon S3 user guide.

>>> REAL_TIME_BODY.value
26214400
>>> [limit.member for limit in list_limits("CreateTransformJob")]
['MaxPayloadInMB', 'InstanceCount', 'ModelDataUrl']
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["Limit", "list_limits"]


class Limit(NamedTuple):
    """The largest ``value``, in ``unit``, that a member of an operation's request may have; ``source`` states it."""

    operation: str
    member: str
    value: int
    unit: str
    source: str


_FAQ: Final = "Amazon SageMaker, Model Hosting FAQs"

# AWS's megabyte is 1 048 576 bytes: what it calls 6 MB is 6 291 456 in its service model (InvokeEndpoint, BodyBlob),
# a figure that is older than the FAQs' and to which AWS no longer holds requests.
REAL_TIME_BODY: Final = Limit("InvokeEndpoint", "Body", 25 << 20, "bytes", f"{_FAQ}: real-time, 25 MB")
SERVERLESS_BODY: Final = Limit("InvokeEndpoint", "Body", 4 << 20, "bytes", f"{_FAQ}: serverless, 4 MB")
ASYNCHRONOUS_BODY: Final = Limit(
    "InvokeEndpointAsync", "InputLocation", 1 << 30, "bytes", f"{_FAQ}: asynchronous, 1 GB"
)
INLINE_BODY: Final = Limit("InvokeEndpointAsync", "Body", 128_000, "bytes", "API InvokeEndpointAsync, Body")

ENVIRONMENT_ENTRIES: Final = Limit("CreateModel", "Environment", 100, "entries", "API ContainerDefinition.Environment")
ENVIRONMENT_KEY: Final = Limit(
    "CreateModel", "Environment", 1024, "characters of a key", "API ContainerDefinition.Environment"
)
ENVIRONMENT_VALUE: Final = Limit(
    "CreateModel", "Environment", 1024, "characters of a value", "API ContainerDefinition.Environment"
)
ENVIRONMENT_SIZE: Final = Limit(
    "CreateModel", "Environment", 32 << 10, "characters of all keys and values", "API ContainerDefinition.Environment"
)
PACKAGE_ENVIRONMENT_ENTRIES: Final = Limit(
    "CreateModelPackage", "Environment", 16, "entries", "API ModelPackageContainerDefinition.Environment"
)
ADDITIONAL_SPECIFICATIONS: Final = Limit(
    "UpdateModelPackage", "AdditionalInferenceSpecifications", 15, "entries", "API UpdateModelPackage"
)

SERVERLESS_MEMORY_STEP: Final = Limit(
    "CreateEndpointConfig", "MemorySizeInMB", 1024, "MB", "API ProductionVariantServerlessConfig: in 1 GB increments"
)
TRAFFIC_SHARE: Final = Limit(
    "UpdateEndpoint", "CapacitySize", 50, "percent", "API TrafficRoutingConfig, RollingUpdatePolicy"
)
LEAST_LINEAR_SHARE: Final = Limit("UpdateEndpoint", "LinearStepSize", 10, "percent", "API TrafficRoutingConfig")
LEAST_ROLLING_SHARE: Final = Limit("UpdateEndpoint", "MaximumBatchSize", 5, "percent", "API RollingUpdatePolicy")
UPDATE_TIME: Final = Limit(
    "UpdateEndpoint", "MaximumExecutionTimeoutInSeconds", 28_800, "seconds", "API BlueGreenUpdatePolicy"
)

TRANSFORM_PAYLOAD: Final = Limit(
    "CreateTransformJob", "MaxPayloadInMB", 100, "MB, also times MaxConcurrentTransforms", "API CreateTransformJob"
)
TRANSFORM_INSTANCES: Final = Limit(
    "CreateTransformJob", "InstanceCount", 100, "instances", "API TransformResources: the maximum is 100"
)
TRANSFORM_VOLUME: Final = Limit(
    "CreateTransformJob", "ModelDataUrl", 30 << 30, "bytes unpacked", "DG Use Batch Transform: the instance's volume"
)
TRAINING_TIME: Final = Limit(
    "CreateTrainingJob", "MaxRuntimeInSeconds", 28 * 24 * 60 * 60, "seconds", "API StoppingCondition: 28 days"
)

NAME: Final = Limit("CreateModel", "ModelName", 63, "characters", "service model, ModelName and all other names")
TAGS: Final = Limit("AddTags", "Tags", 50, "tags of a resource", "service model, TagList")
FAILURE_REASON: Final = Limit("DescribeEndpoint", "FailureReason", 1024, "characters", "service model, FailureReason")
SEARCH_FILTERS: Final = Limit("Search", "SearchExpression", 50, "filters and expressions", "API Search")

S3_KEY: Final = Limit("PutObject", "Key", 1024, "bytes of UTF-8", "S3 Naming Amazon S3 objects")
S3_OBJECT: Final = Limit("PutObject", "Body", 5 << 30, "bytes", "S3 Uploading objects")
S3_DELETED_OBJECTS: Final = Limit("DeleteObjects", "Delete", 1000, "keys", "API DeleteObjects")

_LIMITS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Limit))


def list_limits(operation: str) -> tuple[Limit, ...]:
    """Return the limits of an operation of AWS, none where none is documented."""
    return tuple(limit for limit in _LIMITS if limit.operation == operation)
