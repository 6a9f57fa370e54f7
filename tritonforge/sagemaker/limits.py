"""The registry of what AWS documents about requests and its service model does not hold, keyed by operation. No I/O.

A row names the check of an operation's requests and the pages of AWS that state its limits; single numbers are in
`tritonforge.triton.service_limits`. Plans, the client and the emulator read the registry, so that a request that is
rejected by one is rejected by all, with the same sentence. What the service model holds (lengths, patterns,
enumerations, ranges) is checked by `tritonforge.sagemaker.service_model`.

>>> [violation.place for violation in check_limits("CreateModel", {"ModelName": "digits"})]
['PrimaryContainer']
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pkgutil import resolve_name
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from tritonforge.sagemaker.service_model import Violation

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


_ENDPOINT: Final = "tritonforge.sagemaker.endpoints.endpoint_limits"
_UPDATE: Final = DocumentedLimits(
    f"{_ENDPOINT}:check_endpoint",
    "API DeploymentConfig, BlueGreenUpdatePolicy, RollingUpdatePolicy, TrafficRoutingConfig",
)

#: The operations whose requests have documented limits. Of one without a row everything is allowed.
OPERATIONS: Final[Mapping[str, DocumentedLimits]] = MappingProxyType(
    {
        "CreateAlgorithm": DocumentedLimits(
            "tritonforge.sagemaker.jobs.marketplace.algorithm_limits:create_algorithm",
            "API CreateAlgorithm, TrainingSpecification, InferenceSpecification, AlgorithmValidationSpecification",
        ),
        "CreateEndpoint": _UPDATE,
        "CreateEndpointConfig": DocumentedLimits(
            f"{_ENDPOINT}:check_endpoint_config",
            "API CreateEndpointConfig, ProductionVariant; DG Deploy models with Serverless Inference",
        ),
        "CreateModel": DocumentedLimits(
            f"{_ENDPOINT}:check_model",
            "API CreateModel, ContainerDefinition, S3ModelDataSource; DG Deploy uncompressed models, Invoke a "
            "multi-container endpoint with direct invocation",
        ),
        "CreateModelPackage": DocumentedLimits(
            "tritonforge.sagemaker.jobs.marketplace.algorithm_limits:create_model_package",
            "API CreateModelPackage, ModelPackageContainerDefinition, ModelPackageValidationSpecification",
        ),
        "CreateTrainingJob": DocumentedLimits(
            "tritonforge.sagemaker.jobs.training.limits:create_training_job",
            "API CreateTrainingJob, ResourceConfig, StoppingCondition; DG Train Using SageMaker Managed Warm Pools",
        ),
        "CreateTransformJob": DocumentedLimits(
            "tritonforge.sagemaker.jobs.transform.limits:create_transform_job",
            "API CreateTransformJob, TransformInput, TransformResources, DataProcessing",
        ),
        "PutScalingPolicy": DocumentedLimits(
            f"{_ENDPOINT}:check_scaling_policy", "API PutScalingPolicy, TargetTrackingScalingPolicyConfiguration"
        ),
        "RegisterScalableTarget": DocumentedLimits(f"{_ENDPOINT}:check_scalable_target", "API RegisterScalableTarget"),
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
