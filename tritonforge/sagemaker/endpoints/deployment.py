"""What a user wants on SageMaker: one endpoint, its variants, and the settings of both. No I/O.

Field names are boto3's in snake_case. What a variant leaves out it takes from the deployment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Final

from tritonforge.errors import DefinitionError
from tritonforge.field_types import check_fields
from tritonforge.sagemaker.endpoints.policies import UpdatePolicy
from tritonforge.sagemaker.endpoints.scaling import Autoscaling
from tritonforge.sagemaker.endpoints.settings import (
    AsyncInference,
    DataCapture,
    ManagedInstanceScaling,
    Serverless,
    VpcConfig,
)

__all__ = ["LONGEST_NAME", "PREFIX", "Deployment", "Variant"]

#: SageMaker's names have 63 characters; a model's is the deployment's with two digests behind it.
LONGEST_NAME: Final = 63 - len("-0123456789ab-01234567")

#: Where the archives lie in the bucket: PREFIX/NAME/DIGEST/model.tar.gz.
PREFIX: Final = "tritonforge"

_NAME: Final = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")
_VARIANT: Final = "AllTraffic"


def _nothing() -> Mapping[str, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Served:
    """What may be said for all variants at once, or for one.

    ``image`` is what the repository is judged for: a release (``"24.09"``), a tag, or a URI; with backends that an own
    image adds, ``"26.05+tensorflow"``. ``image_uri`` is where an own image lies. ``environment`` is added to what the
    repository asks for and wins over it. Times are seconds. ``inference_ami_version`` is chosen by the image's CUDA
    where it is left out. ``overrides`` are members of ``ProductionVariant`` in boto3's spelling, added last.
    """

    image: str | None = None
    image_uri: str | None = None
    environment: Mapping[str, str] = field(default_factory=_nothing)
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
    overrides: Mapping[str, Any] = field(default_factory=_nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant(_Served):
    """One of several models behind an endpoint, which share the requests by weight.

    ``repository`` is the path of its built repository or archive, relative to the definition; None means the
    deployment's own. ``model_data_url`` names an archive that lies in S3 already and is not touched.
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
    """An endpoint as it is to be.

    ``execution_role_arn`` is the ARN of the role, or the name of a role of the same account. ``bucket`` is SageMaker's
    default one (``sagemaker-REGION-ACCOUNT``) where left out; the archives lie below ``prefix``. ``multi_model`` puts
    all repositories behind one container, each an archive that a request names as its TargetModel. ``uncompressed``
    lays the files into S3 one by one, which starts faster. ``deployment_config`` is how an update is carried out.

    Raises:
        DefinitionError: a name that AWS would not take with the digests behind it, or settings that exclude each other.
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
    tags: Mapping[str, str] = field(default_factory=_nothing)

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
            raise DefinitionError(f"deployment {self.name}: the tag {reserved[0]!r} is not yours to set")
        names = [each.variant_name for each in (*self.variants, *self.shadow_variants)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise DefinitionError(f"deployment {self.name}: two variants are named {twice[0]!r}")
        object.__setattr__(self, "prefix", self.prefix.strip("/"))

    def production(self) -> tuple[Variant, ...]:
        """The variants that answer, with everything that they take from the deployment filled in."""
        return tuple(self._filled(each) for each in self.variants or (Variant(),))

    def shadows(self) -> tuple[Variant, ...]:
        """The variants that get copies of the requests, filled in likewise."""
        return tuple(self._filled(each) for each in self.shadow_variants)

    def with_settings(self, **settings: Any) -> Deployment:
        """The same deployment with other settings; those that are None leave it as it is."""
        return replace(self, **{name: value for name, value in settings.items() if value is not None})

    def _filled(self, variant: Variant) -> Variant:
        own = {each.name: getattr(variant, each.name) for each in fields(_Served)}
        taken = {name: getattr(self, name) if value is None else value for name, value in own.items()}
        for name in ("environment", "overrides"):
            taken[name] = {**getattr(self, name), **own[name]}
        if variant.serverless_config is not None and self.serverless_config is None:
            for name in ("instance_type", "initial_instance_count"):
                taken[name] = own[name]
        elif variant.instance_type is not None:
            taken["serverless_config"] = own["serverless_config"]
        return replace(variant, **taken)
