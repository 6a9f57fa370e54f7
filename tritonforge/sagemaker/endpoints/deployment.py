"""The deployment that a user describes: one endpoint, its variants, and their settings. No I/O.

Field names are boto3's in snake_case. A variant takes from the deployment what it does not set itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.errors import DefinitionError
from tritonforge.field_types import check_fields
from tritonforge.sagemaker.endpoints.policies import Autoscaling, UpdatePolicy, drop_none
from tritonforge.sagemaker.endpoints.resources import build_archive_key
from tritonforge.triton.service_limits import NAME

__all__ = ["LONGEST_NAME", "PREFIX", "AsyncInference", "Content", "DataCapture", "Deployment",
           "ManagedInstanceScaling", "Serverless", "Variant", "VpcConfig"]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a plan needs of one repository.

    ``digest`` is ``sha256:`` and 64 hex digits of the sorted paths and contents; ``size`` the bytes of all files, which
    the archive does not exceed by much. ``default_model`` is the value of SAGEMAKER_TRITON_DEFAULT_MODEL_NAME, None if
    the repository does not determine it. ``batches`` is True if a model collects requests into batches
    (``dynamic_batching`` or ``sequence_batching`` with ``max_batch_size`` above 1). ``files`` are the sizes by path.
    """

    digest: str
    size: int
    default_model: str | None = None
    batches: bool = False
    files: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def hex(self) -> str:
        """The digest without the name of its function: 64 hex digits."""
        return self.digest.rpartition(":")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Serverless:
    """A variant without instances: ``memory_size_in_mb`` is 1024 to 6144 in steps of 1024."""

    memory_size_in_mb: int
    max_concurrency: int
    provisioned_concurrency: int | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def to_request(self) -> dict[str, Any]:
        """Return ``ProductionVariant.ServerlessConfig``."""
        return drop_none(
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

    def to_request(self) -> dict[str, Any]:
        """Return ``ProductionVariant.ManagedInstanceScaling``."""
        return drop_none(
            Status=self.status,
            MinInstanceCount=self.min_instance_count,
            MaxInstanceCount=self.max_instance_count,
            ScaleInPolicy=None if self.scale_in_policy is None else dict(self.scale_in_policy),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DataCapture:
    """The capture of traffic to S3: a percentage of the requests, their inputs, outputs or both.

    Without ``destination_s3_uri`` it goes beside the deployment's own objects, so that `destroy` keeps it. Content
    types that are in neither list are written as base64, JSON as it is.
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

    def to_request(self, *, default: str) -> dict[str, Any]:
        """Return ``DataCaptureConfig``, to ``default`` if there is no destination."""
        types = drop_none(
            CsvContentTypes=tuple(self.csv_content_types) or None,
            JsonContentTypes=tuple(self.json_content_types) or None,
        )
        return drop_none(
            EnableCapture=self.enable_capture,
            InitialSamplingPercentage=self.initial_sampling_percentage,
            DestinationS3Uri=self.destination_s3_uri or default,
            KmsKeyId=self.kms_key_id,
            CaptureOptions=[{"CaptureMode": mode} for mode in self.capture_modes],
            CaptureContentTypeHeader=types or None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AsyncInference:
    """Asynchronous inference: requests wait in a queue, responses are written to S3; topics are ARNs of SNS."""

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

    def to_request(self, *, default: str) -> dict[str, Any]:
        """Return ``AsyncInferenceConfig``, to ``default`` if there is no output path."""
        notification = drop_none(
            SuccessTopic=self.success_topic,
            ErrorTopic=self.error_topic,
            IncludeInferenceResponseIn=tuple(self.include_inference_response_in) or None,
        )
        concurrency = self.max_concurrent_invocations_per_instance
        return drop_none(
            ClientConfig=None if concurrency is None else {"MaxConcurrentInvocationsPerInstance": concurrency},
            OutputConfig=drop_none(
                S3OutputPath=self.s3_output_path or default,
                S3FailurePath=self.s3_failure_path,
                KmsKeyId=self.kms_key_id,
                NotificationConfig=notification or None,
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class VpcConfig:
    """The subnets and security groups of your network in which the containers run."""

    security_group_ids: Sequence[str]
    subnets: Sequence[str]

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "security_group_ids", tuple(self.security_group_ids))
        object.__setattr__(self, "subnets", tuple(self.subnets))

    def to_request(self) -> dict[str, Any]:
        """Return ``VpcConfig``."""
        return {"SecurityGroupIds": list(self.security_group_ids), "Subnets": list(self.subnets)}


#: SageMaker's names have 63 characters; a model's is the deployment's with two digests behind it.
LONGEST_NAME: Final = NAME.value - len("-0123456789ab-01234567")

#: Where the archives lie in the bucket: PREFIX/NAME/DIGEST/model.tar.gz.
PREFIX: Final = "tritonforge"

_NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_VARIANT: Final = "AllTraffic"


def _make_empty_mapping() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    """The settings of all variants, or of one.

    ``image`` is the image for which the repository is checked: a release (``"24.09"``), a tag, or a URI; with backends
    that an own image adds, ``"26.05+tensorflow"``. ``image_uri`` is the URI of an own image. ``environment`` is added
    to what the repository requires and overrides it. Times are seconds. ``inference_ami_version`` is chosen by the
    image's CUDA if it is None. ``overrides`` are members of ``ProductionVariant`` in boto3's spelling, added last.
    """

    image: str | None = None
    image_uri: str | None = None
    environment: Mapping[str, str] = field(default_factory=_make_empty_mapping)
    instance_type: str | None = None
    initial_instance_count: int | None = None
    serverless_config: Serverless | None = None
    managed_instance_scaling: ManagedInstanceScaling | None = None
    routing_strategy: str | None = None
    volume_size_in_gb: int | None = None
    model_data_download_timeout_in_seconds: int | None = None
    container_startup_health_check_timeout_in_seconds: int | None = None
    inference_ami_version: str | None = None
    enable_ssm_access: bool | None = None
    autoscaling: Autoscaling | None = None
    overrides: Mapping[str, Any] = field(default_factory=_make_empty_mapping)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant(_Served):
    """One of several models behind an endpoint, which share the requests by weight.

    ``repository`` is the path of its built repository or archive, relative to the definition; None means the
    deployment's own. ``model_data_url`` names an archive that is in S3 already and is not changed.
    """

    variant_name: str = _VARIANT
    initial_variant_weight: float = 1.0
    repository: str | None = None
    model_data_url: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.repository is not None and self.model_data_url is not None:
            raise DefinitionError(f"variant {self.variant_name!r}: give repository or model_data_url, not both")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment(_Served):
    """A desired endpoint.

    ``execution_role_arn`` is the ARN of the role, or the name of a role of the same account. ``bucket`` is SageMaker's
    default one (``sagemaker-REGION-ACCOUNT``) if it is None; the archives lie below ``prefix``. ``multi_model`` puts
    all repositories behind one container, each an archive that a request names as its TargetModel. ``uncompressed``
    puts the files into S3 one by one, which starts faster. ``deployment_config`` is how an update is carried out.

    Raises:
        DefinitionError: a name that AWS would reject with the digests behind it, or settings that exclude each other.
    """

    name: str
    execution_role_arn: str | None = None
    region: str | None = None
    bucket: str | None = None
    prefix: str = PREFIX
    variants: Sequence[Variant] = ()
    shadow_variants: Sequence[Variant] = ()
    multi_model: bool = False
    uncompressed: bool = False
    data_capture_config: DataCapture | None = None
    async_inference_config: AsyncInference | None = None
    deployment_config: UpdatePolicy | None = None
    vpc_config: VpcConfig | None = None
    kms_key_id: str | None = None
    enable_network_isolation: bool = False
    tags: Mapping[str, str] = field(default_factory=_make_empty_mapping)

    def __post_init__(self) -> None:
        check_fields(self)
        if not _NAME.fullmatch(self.name) or len(self.name) > LONGEST_NAME:
            raise DefinitionError(
                f"deployment {self.name!r}: a name has up to {LONGEST_NAME} letters and digits, with '-' between them"
            )
        if self.multi_model and self.uncompressed:
            raise DefinitionError(f"deployment {self.name}: the models of a multi-model endpoint are archives")
        reserved = [key for key in self.tags if key.startswith(("tritonforge:", "aws:"))]
        if reserved:
            raise DefinitionError(f"deployment {self.name}: the tag {reserved[0]!r} is reserved")
        names = [variant.variant_name for variant in (*self.variants, *self.shadow_variants)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DefinitionError(f"deployment {self.name}: two variants are named {twice[0]!r}")
        object.__setattr__(self, "prefix", self.prefix.strip("/"))

    @property
    def folder(self) -> str:
        """The key below which everything of the deployment lies in its bucket; ends with a slash."""
        return build_archive_key(self.prefix, self.name, "")

    @property
    def repositories(self) -> tuple[str, ...]:
        """The repositories that variants name, in their order."""
        variants = (*self.variants, *self.shadow_variants)
        return tuple(dict.fromkeys(variant.repository for variant in variants if variant.repository is not None))

    def list_variants(self) -> tuple[Variant, ...]:
        """Return the variants that answer, with every setting that they take from the deployment."""
        return tuple(self._fill(variant) for variant in self.variants or (Variant(),))

    def list_shadow_variants(self) -> tuple[Variant, ...]:
        """Return the variants that get copies of the requests, with every setting that they take."""
        return tuple(self._fill(variant) for variant in self.shadow_variants)

    def with_settings(self, **settings: Any) -> Deployment:
        """Return the deployment with other settings; those that are None are not changed."""
        return replace(self, **{name: value for name, value in settings.items() if value is not None})

    def _fill(self, variant: Variant) -> Variant:
        own = {field.name: getattr(variant, field.name) for field in fields(_Served)}
        filled = {name: getattr(self, name) if value is None else value for name, value in own.items()}
        for name in ("environment", "overrides"):
            filled[name] = {**getattr(self, name), **own[name]}
        if variant.serverless_config is not None and self.serverless_config is None:
            for name in ("instance_type", "initial_instance_count"):
                filled[name] = own[name]
        elif variant.instance_type is not None:
            filled["serverless_config"] = own["serverless_config"]
        return replace(variant, **filled)
