"""What DescribeEndpoint says of an endpoint: every member of the service model that applies. No I/O.

``ResolvedImage`` is left out of DeployedImages: no registry is asked for a digest, so none is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tritonforge.emulator.control.records import Endpoint, Pending, VariantNow

__all__ = ["endpoint"]

#: What is taken from the variant's configuration as it is.
_CARRIED: Final = ("ManagedInstanceScaling", "RoutingConfig")


def endpoint(found: Endpoint) -> Mapping[str, Any]:
    """The answer to DescribeEndpoint."""
    answer: dict[str, Any] = {
        "EndpointName": found.name,
        "EndpointArn": found.arn,
        "EndpointConfigName": found.config_name,
        "EndpointStatus": found.status,
        "CreationTime": found.created,
        "LastModifiedTime": found.modified,
    }
    if found.failure:
        answer["FailureReason"] = found.failure
    if found.variants:
        answer["ProductionVariants"] = [_variant(each, found.created) for each in found.variants]
    if found.shadows:
        answer["ShadowProductionVariants"] = [_variant(each, found.created) for each in found.shadows]
    if found.policy:
        answer["LastDeploymentConfig"] = found.policy
    if found.pending is not None:
        answer["PendingDeploymentSummary"] = _pending(found.pending)
    capture = found.config.get("DataCaptureConfig")
    if capture:
        serving = found.status in ("InService", "Updating", "RollingBack")
        answer["DataCaptureConfig"] = {
            "EnableCapture": bool(capture.get("EnableCapture", True)),
            "CaptureStatus": "Started" if serving and capture.get("EnableCapture", True) else "Stopped",
            "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
            "DestinationS3Uri": capture["DestinationS3Uri"],
            "KmsKeyId": capture.get("KmsKeyId", ""),
        }
    for name in ("AsyncInferenceConfig", "ExplainerConfig", "MetricsConfig", "CrossRegionTrafficConfig"):
        if found.config.get(name):
            answer[name] = found.config[name]
    return answer


def _variant(variant: VariantNow, since: float) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "VariantName": variant.name,
        "DeployedImages": [{"SpecifiedImage": image, "ResolutionTime": since} for image in variant.images if image],
        "CurrentWeight": variant.weight,
        "DesiredWeight": variant.desired_weight,
    }
    serverless = variant.config.get("ServerlessConfig")
    if serverless:
        answer["CurrentServerlessConfig"] = answer["DesiredServerlessConfig"] = serverless
    else:
        answer["CurrentInstanceCount"] = variant.instances
        answer["DesiredInstanceCount"] = variant.desired_instances
    if variant.stages:
        answer["VariantStatus"] = [
            {"Status": each.status, "StartTime": each.since} | ({"StatusMessage": each.message} if each.message else {})
            for each in variant.stages
        ]
    return answer | {name: variant.config[name] for name in _CARRIED if variant.config.get(name)}


def _pending(pending: Pending) -> Mapping[str, Any]:
    answer: dict[str, Any] = {
        "EndpointConfigName": pending.config_name,
        "ProductionVariants": [_awaited(each, pending.started) for each in pending.variants],
        "StartTime": pending.started,
    }
    if pending.shadows:
        answer["ShadowProductionVariants"] = [_awaited(each, pending.started) for each in pending.shadows]
    return answer


def _awaited(variant: VariantNow, since: float) -> Mapping[str, Any]:
    kind = variant.config.get("InstanceType")
    return _variant(variant, since) | ({"InstanceType": kind} if kind else {})
