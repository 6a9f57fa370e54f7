"""The desired resources of a deployment: everything that must exist on AWS, as the request that creates it. No I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tritonforge import triton
from tritonforge.errors import DefinitionError
from tritonforge.sagemaker.endpoints import resources
from tritonforge.sagemaker.endpoints.container import build_environment, choose_ami, choose_image
from tritonforge.sagemaker.endpoints.deployment import Content, Deployment, Variant
from tritonforge.sagemaker.endpoints.policies import (
    CONCURRENCY,
    INSTANCES,
    StepScaling,
    build_alarm_name,
    build_resource_id,
    drop_none,
)

__all__ = ["DesiredResources", "Upload", "build_desired"]

_ARCHIVE: Final = "model.tar.gz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """The objects of one repository: an archive at ``key``, or, if ``files`` are given, these below it.

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
    """Requests by name, and the uploads that they refer to; ``alarms`` are by the policy (name) that they set off."""

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


def build_desired(
    deployment: Deployment, contents: Mapping[str, Content], *, region: str, account: str, partition: str
) -> DesiredResources:
    """Return everything that a deployment requires.

    ``contents`` are the repositories by the name that variants use; "" is the deployment's own. All of them are models
    of a multi-model endpoint, by their TargetModel without ``.tar.gz``.

    Raises:
        DefinitionError: the image is not available, the instance type is invalid, or the role or a repository is
            missing.
    """
    role = deployment.execution_role_arn
    if not role:
        raise DefinitionError(
            f"deployment {deployment.name}: the IAM role for SageMaker is missing. Give execution_role_arn=... "
            "(--role): its ARN, or its name in this account"
        )
    if not role.startswith("arn:"):
        role = f"arn:{partition}:iam::{account}:role/{role}"
    bucket = deployment.bucket or f"sagemaker-{region}-{account}"
    builder = _Builder(deployment=deployment, contents=contents, region=region, role=role, bucket=bucket)
    production = [builder.add_variant(variant) for variant in deployment.list_variants()]
    shadows = [builder.add_variant(variant) for variant in deployment.list_shadow_variants()]
    digests = {content.digest for content in contents.values()}
    tags = resources.build_tags(deployment.name, deployment.tags, digest=digests.pop() if len(digests) == 1 else None)
    config = builder.build_config(production, shadows, tags)
    targets, policies, alarms = _build_scaling(deployment)
    return DesiredResources(
        bucket=bucket,
        default_bucket=deployment.bucket is None,
        uploads=tuple(builder.uploads[key] for key in sorted(builder.uploads)),
        models=builder.models,
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
        notes=tuple(dict.fromkeys(builder.notes)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Builder:
    """The requests of a deployment while they are built."""

    deployment: Deployment
    contents: Mapping[str, Content]
    region: str
    role: str
    bucket: str
    uploads: dict[str, Upload] = field(default_factory=dict)
    models: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add_variant(self, variant: Variant) -> dict[str, Any]:
        """Add the model of a variant, and return its ``ProductionVariant``."""
        name, kind = variant.variant_name, variant.instance_type
        if variant.serverless_config is None and kind is None and "InstancePools" not in variant.overrides:
            raise DefinitionError(
                f"variant {name}: the instance type is missing. Give instance_type='ml.g4dn.xlarge' (--instance-type), "
                "or serverless_config"
            )
        if kind is not None:
            triton.parse_instance_family(kind)
        chosen = choose_image(variant, self.region)
        model = self._add_model(variant, chosen.uri, chosen.image)
        version, reason = choose_ami(variant, chosen.image)
        if version is not None and variant.inference_ami_version is None:
            self.notes.append(f"variant {name}: machine image {version}, because {reason}")
        serverless, managed = variant.serverless_config, variant.managed_instance_scaling
        routing = variant.routing_strategy
        request = drop_none(
            VariantName=name,
            ModelName=model,
            InitialVariantWeight=float(variant.initial_variant_weight),
            InstanceType=kind,
            InitialInstanceCount=variant.initial_instance_count or (None if kind is None else 1),
            ServerlessConfig=None if serverless is None else serverless.to_request(),
            VolumeSizeInGB=variant.volume_size_in_gb,
            ModelDataDownloadTimeoutInSeconds=variant.model_data_download_timeout_in_seconds,
            ContainerStartupHealthCheckTimeoutInSeconds=variant.container_startup_health_check_timeout_in_seconds,
            EnableSSMAccess=variant.enable_ssm_access,
            ManagedInstanceScaling=None if managed is None else managed.to_request(),
            RoutingConfig=None if routing is None else {"RoutingStrategy": routing},
            InferenceAmiVersion=version,
        )
        return {**request, **variant.overrides, "ModelName": model}

    def _add_model(self, variant: Variant, uri: str, image: triton.Image | None) -> str:
        """Add ``CreateModel`` and the uploads of a variant, and return the model's name."""
        deployment = self.deployment
        content: Content | None = None
        data: dict[str, Any]
        if variant.model_data_url is not None:
            data, digest = {"ModelDataUrl": variant.model_data_url}, _hash_text(variant.model_data_url)
        elif deployment.multi_model:
            data, digest = self._upload_multi_model()
            batches = any(content.batches for content in self.contents.values())
            content = Content(digest=f"sha256:{digest}", size=0, batches=batches)
        else:
            content = self.contents.get(variant.repository or "")
            if content is None:
                raise DefinitionError(
                    f"variant {variant.variant_name}: its repository is missing; name a built one (repository=...)"
                )
            digest = content.hex
            data = self._upload_repository(variant.repository or "", content)
        environment = build_environment(variant, content, image, multi_model=deployment.multi_model)
        container = drop_none(
            Image=uri,
            Mode="MultiModel" if deployment.multi_model else None,
            **data,
            Environment=dict(sorted(environment.items())) or None,
        )
        request = drop_none(
            PrimaryContainer=container,
            ExecutionRoleArn=self.role,
            VpcConfig=None if deployment.vpc_config is None else deployment.vpc_config.to_request(),
            EnableNetworkIsolation=deployment.enable_network_isolation or None,
        )
        shown = None if variant.model_data_url is not None else f"sha256:{digest}"
        tags = resources.build_tags(deployment.name, deployment.tags, digest=shown)
        name = resources.name_model(deployment.name, digest, request)
        self.models[name] = {"ModelName": name, **request, "Tags": resources.list_tags(tags)}
        return name

    def _upload_repository(self, source: str, content: Content) -> dict[str, Any]:
        deployment = self.deployment
        key = resources.build_archive_key(deployment.prefix, deployment.name, content.hex)
        if not deployment.uncompressed:
            archive = f"{key}{_ARCHIVE}"
            self.uploads[archive] = Upload(key=archive, source=source, size=content.size, digest=content.digest)
            return {"ModelDataUrl": f"s3://{self.bucket}/{archive}"}
        self.uploads[key] = Upload(
            key=key, source=source, size=content.size, digest=content.digest, files=content.files
        )
        data = {"S3Uri": f"s3://{self.bucket}/{key}", "S3DataType": "S3Prefix", "CompressionType": "None"}
        return {"ModelDataSource": {"S3DataSource": data}}

    def _upload_multi_model(self) -> tuple[dict[str, Any], str]:
        """Upload all archives below one prefix, which carries their common digest.

        A container keeps the TargetModels that it has loaded, so an archive that changes must not overwrite the old one
        (SageMaker developer guide, "Add or remove models" of multi-model endpoints).
        """
        deployment = self.deployment
        if not self.contents:
            raise DefinitionError(f"deployment {deployment.name}: a multi-model endpoint needs a repository")
        lines = (f"{target}\0{content.digest}\n" for target, content in sorted(self.contents.items()))
        digest = _hash_text("".join(lines))
        prefix = resources.build_archive_key(deployment.prefix, deployment.name, digest)
        for target, content in self.contents.items():
            key = f"{prefix}{target or deployment.name}.tar.gz"
            self.uploads[key] = Upload(key=key, source=target, size=content.size, digest=content.digest)
        return {"ModelDataUrl": f"s3://{self.bucket}/{prefix}"}, digest

    def build_config(
        self, production: list[dict[str, Any]], shadows: list[dict[str, Any]], tags: Mapping[str, str]
    ) -> dict[str, Any]:
        """Return ``CreateEndpointConfig``."""
        deployment = self.deployment
        # The endpoint writes beside the deployment's own prefix, because what it writes is the user's.
        prefix = f"{deployment.prefix}-data" if deployment.prefix else "data"
        data = f"s3://{self.bucket}/{prefix}/{deployment.name}"
        capture, queue = deployment.data_capture_config, deployment.async_inference_config
        request = drop_none(
            ProductionVariants=production,
            ShadowProductionVariants=shadows or None,
            DataCaptureConfig=None if capture is None else capture.to_request(default=f"{data}/capture"),
            AsyncInferenceConfig=None if queue is None else queue.to_request(default=f"{data}/async"),
            KmsKeyId=deployment.kms_key_id,
        )
        name = resources.name_config(deployment.name, request)
        return {"EndpointConfigName": name, **request, "Tags": resources.list_tags(tags)}


def _hash_text(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _build_scaling(
    deployment: Deployment,
) -> tuple[tuple[dict[str, Any], ...], tuple[dict[str, Any], ...], dict[str, dict[str, Any]]]:
    """Return the scalable targets, the policies, and the alarms by the policy that they set off."""
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
                alarms[f"{resource} {request['PolicyName']}"] = policy.to_alarm(name, deployment.name)
    return tuple(targets), tuple(policies), alarms
