"""What a deployment comes to on AWS: every resource that is to be there, as the request that makes it. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tritonforge import triton
from tritonforge.errors import DefinitionError
from tritonforge.sagemaker.endpoints import resources
from tritonforge.sagemaker.endpoints.container import ContainerImage, build_environment, choose_ami, choose_image
from tritonforge.sagemaker.endpoints.deployment import Content, Deployment, Variant
from tritonforge.sagemaker.endpoints.policies import (
    CONCURRENCY,
    INSTANCES,
    StepScaling,
    build_alarm_name,
    build_resource_id,
    drop_none,
)

__all__ = ["DesiredResources", "Upload", "build_desired", "choose_bucket"]

_ARCHIVE: Final = "model.tar.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What must lie in S3 of one repository: an archive at ``key``, or, where ``files`` are given, these below it.

    ``size`` is in bytes, of an archive at most; ``files`` are sizes by path, and ``key`` then ends with a slash.
    """

    key: str
    source: str
    size: int
    digest: str
    files: Mapping[str, int] | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of all objects."""
        return (self.key,) if self.files is None else tuple(f"{self.key}{path}" for path in self.files)


@dataclass(frozen=True, slots=True, kw_only=True)
class DesiredResources:
    """Requests by name, and what must lie in S3 for them; ``alarms`` are by the policy (name) that they set off."""

    bucket: str
    default_bucket: bool
    uploads: Sequence[Upload]
    models: Mapping[str, Mapping[str, Any]]
    config: Mapping[str, Any]
    endpoint: Mapping[str, Any]
    deployment_config: Mapping[str, Any] | None
    targets: Sequence[Mapping[str, Any]]
    policies: Sequence[Mapping[str, Any]]
    alarms: Mapping[str, Mapping[str, Any]]
    tags: Mapping[str, str]
    notes: Sequence[str]

    @property
    def config_name(self) -> str:
        """The name of the endpoint configuration."""
        return str(self.config["EndpointConfigName"])


def choose_bucket(deployment: Deployment, *, region: str, account: str) -> str:
    """The bucket of the archives: the one given, or SageMaker's default one."""
    return deployment.bucket or f"sagemaker-{region}-{account}"


def build_desired(
    deployment: Deployment, contents: Mapping[str, Content], *, region: str, account: str, partition: str
) -> DesiredResources:
    """Everything that is to be there.

    ``contents`` are the repositories by what variants call them; "" is the deployment's own. All of them are models of
    a multi-model endpoint, by their TargetModel without ``.tar.gz``.

    Raises:
        DefinitionError: an image that is not to be had, an instance type of no known form, no role, no repository.
    """
    place = _Place(
        deployment=deployment,
        contents=contents,
        region=region,
        role=_role(deployment, account=account, partition=partition),
        bucket=choose_bucket(deployment, region=region, account=account),
    )
    uploads: dict[str, Upload] = {}
    models: dict[str, Mapping[str, Any]] = {}
    notes: list[str] = []
    production = [_variant(place, each, uploads, models, notes) for each in deployment.list_variants()]
    shadows = [_variant(place, each, uploads, models, notes) for each in deployment.list_shadow_variants()]
    digests = {each.digest for each in contents.values()}
    tags = resources.build_tags(deployment.name, deployment.tags, digest=digests.pop() if len(digests) == 1 else None)
    config = _config(place, production, shadows, tags)
    targets, policies, alarms = _scaling(deployment)
    return DesiredResources(
        bucket=place.bucket,
        default_bucket=deployment.bucket is None,
        uploads=tuple(uploads[key] for key in sorted(uploads)),
        models=models,
        config=config,
        endpoint={
            "EndpointName": deployment.name,
            "EndpointConfigName": config["EndpointConfigName"],
            "Tags": resources.list_tags(tags),
        },
        deployment_config=None if deployment.deployment_config is None else deployment.deployment_config.to_request(),
        targets=targets,
        policies=policies,
        alarms=alarms,
        tags=tags,
        notes=tuple(dict.fromkeys(notes)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    deployment: Deployment
    contents: Mapping[str, Content]
    region: str
    role: str
    bucket: str

    def data(self, kind: str) -> str:
        """Where the endpoint writes: beside the deployment's folder, not in it, because it is the user's."""
        prefix = f"{self.deployment.prefix}-data" if self.deployment.prefix else "data"
        return f"s3://{self.bucket}/{prefix}/{self.deployment.name}/{kind}"


def _role(deployment: Deployment, *, account: str, partition: str) -> str:
    role = deployment.execution_role_arn
    if not role:
        raise DefinitionError(
            f"deployment {deployment.name}: which IAM role is SageMaker to use? Give execution_role_arn=... (--role): "
            "its ARN, or its name in this account"
        )
    return role if role.startswith("arn:") else f"arn:{partition}:iam::{account}:role/{role}"


def _variant(
    place: _Place,
    variant: Variant,
    uploads: dict[str, Upload],
    models: dict[str, Mapping[str, Any]],
    notes: list[str],
) -> dict[str, Any]:
    if variant.serverless_config is None and variant.instance_type is None and "InstancePools" not in variant.overrides:
        raise DefinitionError(
            f"variant {variant.variant_name}: which instances is it to run on? Give instance_type='ml.g4dn.xlarge' "
            "(--instance-type), or serverless_config"
        )
    if variant.instance_type is not None:
        triton.parse_instance_family(variant.instance_type)
    chosen = choose_image(variant, place.region)
    request = _model(place, variant, chosen, uploads)
    models[request["ModelName"]] = request
    version, reason = choose_ami(variant, chosen.image)
    if version is not None and variant.inference_ami_version is None:
        notes.append(f"variant {variant.variant_name}: machine image {version}, because {reason}")
    routing = None if variant.routing_strategy is None else {"RoutingStrategy": variant.routing_strategy}
    scaling_ = variant.managed_instance_scaling
    found = drop_none(
        VariantName=variant.variant_name,
        ModelName=request["ModelName"],
        InitialVariantWeight=float(variant.initial_variant_weight),
        InstanceType=variant.instance_type,
        InitialInstanceCount=variant.initial_instance_count or (None if variant.instance_type is None else 1),
        ServerlessConfig=None if variant.serverless_config is None else variant.serverless_config.to_request(),
        VolumeSizeInGB=variant.volume_size_in_gb,
        ModelDataDownloadTimeoutInSeconds=variant.model_data_download_timeout_in_seconds,
        ContainerStartupHealthCheckTimeoutInSeconds=variant.container_startup_health_check_timeout_in_seconds,
        EnableSSMAccess=variant.enable_ssm_access,
        ManagedInstanceScaling=None if scaling_ is None else scaling_.to_request(),
        RoutingConfig=routing,
        InferenceAmiVersion=version,
    )
    return {**found, **variant.overrides, "ModelName": request["ModelName"]}


def _model(place: _Place, variant: Variant, chosen: ContainerImage, uploads: dict[str, Upload]) -> dict[str, Any]:
    deployment = place.deployment
    content: Content | None = None
    data: dict[str, Any]
    if variant.model_data_url is not None:
        data, digest = {"ModelDataUrl": variant.model_data_url}, _sha256(variant.model_data_url)
    elif deployment.multi_model:
        data, digest = _multi_model(place, uploads)
        batches = any(each.batches for each in place.contents.values())
        content = Content(digest=f"sha256:{digest}", size=0, batches=batches)
    else:
        content = _content(place, variant)
        digest = content.hex
        data = _uploaded(place, variant.repository or "", content, uploads)
    container = drop_none(
        Image=chosen.uri,
        Mode="MultiModel" if deployment.multi_model else None,
        **data,
        Environment=dict(
            sorted(build_environment(variant, content, chosen.image, multi_model=deployment.multi_model).items())
        )
        or None,
    )
    request = drop_none(
        PrimaryContainer=container,
        ExecutionRoleArn=place.role,
        VpcConfig=None if deployment.vpc_config is None else deployment.vpc_config.to_request(),
        EnableNetworkIsolation=deployment.enable_network_isolation or None,
    )
    tags = resources.build_tags(
        deployment.name, deployment.tags, digest=None if variant.model_data_url is not None else f"sha256:{digest}"
    )
    return {
        "ModelName": resources.name_model(deployment.name, digest, request),
        **request,
        "Tags": resources.list_tags(tags),
    }


def _content(place: _Place, variant: Variant) -> Content:
    found = place.contents.get(variant.repository or "")
    if found is None:
        raise DefinitionError(
            f"variant {variant.variant_name}: no repository is given for it; name its built repository (repository=...)"
        )
    return found


def _uploaded(place: _Place, source: str, content: Content, uploads: dict[str, Upload]) -> dict[str, Any]:
    deployment = place.deployment
    key = resources.build_archive_key(deployment.prefix, deployment.name, content.hex)
    if not deployment.uncompressed:
        uploads[f"{key}{_ARCHIVE}"] = Upload(
            key=f"{key}{_ARCHIVE}", source=source, size=content.size, digest=content.digest
        )
        return {"ModelDataUrl": f"s3://{place.bucket}/{key}{_ARCHIVE}"}
    uploads[key] = Upload(key=key, source=source, size=content.size, digest=content.digest, files=content.files)
    return {
        "ModelDataSource": {
            "S3DataSource": {
                "S3Uri": f"s3://{place.bucket}/{key}",
                "S3DataType": "S3Prefix",
                "CompressionType": "None",
            }
        }
    }


def _multi_model(place: _Place, uploads: dict[str, Upload]) -> tuple[dict[str, Any], str]:
    """All archives under one prefix, which carries their common digest.

    A container keeps what it has loaded of a TargetModel, so an archive that changes must not be overwritten in its
    place (SageMaker developer guide, "Add or remove models" of multi-model endpoints).
    """
    deployment = place.deployment
    if not place.contents:
        raise DefinitionError(f"deployment {deployment.name}: a multi-model endpoint needs a repository")
    lines = (f"{target}\0{content.digest}\n" for target, content in sorted(place.contents.items()))
    digest = _sha256("".join(lines))
    key = resources.build_archive_key(deployment.prefix, deployment.name, digest)
    for target, content in place.contents.items():
        name = f"{key}{target or deployment.name}.tar.gz"
        uploads[name] = Upload(key=name, source=target, size=content.size, digest=content.digest)
    return {"ModelDataUrl": f"s3://{place.bucket}/{key}"}, digest


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _config(
    place: _Place,
    production: Sequence[Mapping[str, Any]],
    shadows: Sequence[Mapping[str, Any]],
    tags: Mapping[str, str],
) -> dict[str, Any]:
    deployment = place.deployment
    capture, queue = deployment.data_capture_config, deployment.async_inference_config
    request = drop_none(
        ProductionVariants=list(production),
        ShadowProductionVariants=list(shadows) or None,
        DataCaptureConfig=None if capture is None else capture.to_request(default=place.data("capture")),
        AsyncInferenceConfig=None if queue is None else queue.to_request(default=place.data("async")),
        KmsKeyId=deployment.kms_key_id,
    )
    return {
        "EndpointConfigName": resources.name_config(deployment.name, request),
        **request,
        "Tags": resources.list_tags(tags),
    }


def _scaling(
    deployment: Deployment,
) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...], dict[str, dict[str, Any]]]:
    targets: list[dict[str, Any]] = []
    policies: list[dict[str, Any]] = []
    alarms: dict[str, dict[str, Any]] = {}
    for variant in deployment.list_variants():
        if variant.autoscaling is None:
            continue
        dimension = INSTANCES if variant.serverless_config is None else CONCURRENCY
        resource = build_resource_id(deployment.name, variant.variant_name)
        targets.append(variant.autoscaling.to_target(resource, dimension))
        for policy, request in variant.autoscaling.to_policies(resource, dimension, endpoint=deployment.name):
            policies.append(request)
            if isinstance(policy, StepScaling):
                name = build_alarm_name(deployment.name, variant.variant_name, policy.metric)
                alarm = policy.to_alarm(name, deployment.name)
                alarms[f"{resource} {request['PolicyName']}"] = alarm
    return tuple(targets), tuple(policies), alarms
