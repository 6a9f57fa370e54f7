"""The settings of an endpoint that are values of their own: serverless, fleet, capture, async, VPC. No I/O.

Each knows its part of a request (``request``), in boto3's spelling; the fields are the same names in snake_case.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tritonforge.field_types import check_fields

__all__ = [
    "AsyncInference",
    "DataCapture",
    "ManagedInstanceScaling",
    "Serverless",
    "VpcConfig",
    "given",
]


def given(**members: Any) -> dict[str, Any]:
    """The members of a request that are not None, sequences as lists."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in members.items() if value is not None
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Serverless:
    """A variant without instances: ``memory_size_in_mb`` is 1024 to 6144 in steps of 1024."""

    memory_size_in_mb: int
    max_concurrency: int
    provisioned_concurrency: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def request(self) -> dict[str, Any]:
        """``ProductionVariant.ServerlessConfig``."""
        return given(
            MemorySizeInMB=self.memory_size_in_mb,
            MaxConcurrency=self.max_concurrency,
            ProvisionedConcurrency=self.provisioned_concurrency,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagedInstanceScaling:
    """SageMaker's own scaling of a variant's instances; ``scale_in_policy`` is in boto3's spelling."""

    min_instance_count: int
    max_instance_count: int
    status: str = "ENABLED"
    scale_in_policy: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def request(self) -> dict[str, Any]:
        """``ProductionVariant.ManagedInstanceScaling``."""
        return given(
            Status=self.status,
            MinInstanceCount=self.min_instance_count,
            MaxInstanceCount=self.max_instance_count,
            ScaleInPolicy=None if self.scale_in_policy is None else dict(self.scale_in_policy),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCapture:
    """What of the traffic is written to S3: a share of the requests (percent), inputs, outputs or both.

    Without ``destination_s3_uri`` it goes beside the deployment's own objects, so that `destroy` leaves it alone.
    Content types that are in neither list are written as base64; JSON is written as it is.
    """

    initial_sampling_percentage: int = 100
    destination_s3_uri: str | None = None
    kms_key_id: str | None = None
    capture_modes: Sequence[str] = ("Input", "Output")
    csv_content_types: Sequence[str] = ()
    json_content_types: Sequence[str] = ("application/json",)
    enable_capture: bool = True

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("capture_modes", "csv_content_types", "json_content_types"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def request(self, *, default: str) -> dict[str, Any]:
        """``DataCaptureConfig``, to ``default`` where no destination is given."""
        types = given(
            CsvContentTypes=tuple(self.csv_content_types) or None,
            JsonContentTypes=tuple(self.json_content_types) or None,
        )
        return given(
            EnableCapture=self.enable_capture,
            InitialSamplingPercentage=self.initial_sampling_percentage,
            DestinationS3Uri=self.destination_s3_uri or default,
            KmsKeyId=self.kms_key_id,
            CaptureOptions=[{"CaptureMode": mode} for mode in self.capture_modes],
            CaptureContentTypeHeader=types or None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncInference:
    """Requests that wait in a queue and whose answers are written to S3; topics are ARNs of SNS."""

    s3_output_path: str | None = None
    s3_failure_path: str | None = None
    kms_key_id: str | None = None
    max_concurrent_invocations_per_instance: int | None = None
    success_topic: str | None = None
    error_topic: str | None = None
    include_inference_response_in: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "include_inference_response_in", tuple(self.include_inference_response_in))

    def request(self, *, default: str) -> dict[str, Any]:
        """``AsyncInferenceConfig``, to ``default`` where no output path is given."""
        notification = given(
            SuccessTopic=self.success_topic,
            ErrorTopic=self.error_topic,
            IncludeInferenceResponseIn=tuple(self.include_inference_response_in) or None,
        )
        concurrency = self.max_concurrent_invocations_per_instance
        return given(
            ClientConfig=None if concurrency is None else {"MaxConcurrentInvocationsPerInstance": concurrency},
            OutputConfig=given(
                S3OutputPath=self.s3_output_path or default,
                S3FailurePath=self.s3_failure_path,
                KmsKeyId=self.kms_key_id,
                NotificationConfig=notification or None,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VpcConfig:
    """The subnets and security groups of your own network, in which the containers run."""

    security_group_ids: Sequence[str]
    subnets: Sequence[str]

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "security_group_ids", tuple(self.security_group_ids))
        object.__setattr__(self, "subnets", tuple(self.subnets))

    def request(self) -> dict[str, Any]:
        """``VpcConfig``."""
        return {"SecurityGroupIds": list(self.security_group_ids), "Subnets": list(self.subnets)}
