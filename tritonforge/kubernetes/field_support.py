"""What each field of a `Deployment` means on Kubernetes, and the sentence for those that mean nothing there. No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from tritonforge.errors import DefinitionError
from tritonforge.kubernetes.serving_runtime import MANAGED_BY
from tritonforge.kubernetes.settings import ClusterSettings
from tritonforge.sagemaker.endpoints.deployment import Deployment

__all__ = ["MAPPED", "REFUSED", "REFUSED_BY_CHART", "ClusterTarget", "check_support"]

ClusterTarget: TypeAlias = Literal["kserve", "helm"]

#: Fields that the manifests have, and where.
MAPPED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "name": "metadata.name",
        "image": "the container's image",
        "image_uri": "the container's image",
        "environment": "the container's env",
        "initial_instance_count": "minReplicas, and maxReplicas unless --replicas gives it",
        "container_startup_health_check_timeout_in_seconds": "the startup probe",
        "tags": "labels",
    }
)

_IAM: Final = "Kubernetes has service accounts. Give --service-account"
_STORAGE: Final = "the cluster reads the repository where it lies. Give --storage-uri"
_RESOURCES: Final = "Kubernetes places pods by their resources. Give --cpu, --memory and --gpus"
_REPLICAS: Final = "Kubernetes scales replicas. Give --replicas MIN:MAX and --scale METRIC:TARGET"
_TRAFFIC: Final = "an InferenceService has one predictor. Deploy the others under names of their own"
_CLUSTER: Final = "the network and the disks are the cluster's"

#: Fields without a meaning on Kubernetes, and what to do instead.
REFUSED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "execution_role_arn": _IAM,
        "region": "a cluster is chosen by its kubeconfig. Give --context",
        "bucket": _STORAGE,
        "prefix": _STORAGE,
        "uncompressed": _STORAGE,
        "instance_type": _RESOURCES,
        "serverless_config": _RESOURCES,
        "volume_size_in_gb": _CLUSTER,
        "inference_ami_version": "the nodes' machine image is the cluster's",
        "enable_ssm_access": "kubectl exec opens a shell in a pod",
        "managed_instance_scaling": _REPLICAS,
        "autoscaling": _REPLICAS,
        "routing_strategy": "requests are routed by the cluster's ingress",
        "variants": _TRAFFIC,
        "shadow_variants": _TRAFFIC,
        "multi_model": "a server loads every model of its repository. Give one repository with all models",
        "model_data_download_timeout_in_seconds": "KServe's storage initializer has no timeout. Give --ready-timeout",
        "data_capture_config": "KServe logs payloads with spec.predictor.logger, which is not S3's format",
        "async_inference_config": "requests through S3 are SageMaker's. Use a queue of your own",
        "deployment_config": "Kubernetes rolls pods over by its own strategy",
        "vpc_config": _CLUSTER,
        "kms_key_id": _CLUSTER,
        "enable_network_isolation": "a NetworkPolicy of the namespace does it",
        "overrides": "they are members of SageMaker's ProductionVariant. Edit the manifests of -o DIR",
    }
)

#: What NVIDIA's chart has no value for. Source: server deploy/k8s-onprem/templates/deployment.yaml.
REFUSED_BY_CHART: Final[Mapping[str, str]] = MappingProxyType(
    {
        "environment": "its container has no env",
        "container_startup_health_check_timeout_in_seconds": "its startup probe waits for 300 seconds",
        "tags": "its labels are fixed",
        "cpu": "its container has a limit of GPUs only",
        "memory": "its container has a limit of GPUs only",
        "shared_memory": "it mounts no volume at /dev/shm",
        "service_account": "it makes a service account of its own",
        "scale_metric": "it scales by the time in the queue",
        "deployment_mode": "it makes a Deployment",
        "version": "it is not KServe's",
    }
)

#: Source: kserve v0.20.0 pkg/apis/serving/v1beta1/inference_service_validation.go IsvcNameFmt. Names of
#: Services derive from it, which have 63 characters at most; KServe appends "-predictor-default".
_NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LONGEST_NAME: Final = 63 - len("-predictor-default")
#: Helm's own limit. Source: Helm's reference, "helm install": release names have 53 characters.
_LONGEST_RELEASE: Final = 53
#: Source: Kubernetes' reference, "Labels and Selectors", syntax and character set.
_WORD: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_NAME: Final = re.compile(rf"([a-z0-9]([-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_WORD}")
_LABEL_VALUE: Final = re.compile(rf"({_WORD})?")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_support(deployment: Deployment, settings: ClusterSettings, target: ClusterTarget) -> None:
    """Check that every setting has a meaning at the target; nothing is dropped.

    Raises:
        DefinitionError: a setting has none, or a name that Kubernetes refuses.
    """
    where = f"deployment {deployment.name}"
    for name in _list_given(deployment):
        if name in REFUSED:
            raise DefinitionError(f"{where}: {name} has no meaning on Kubernetes: {REFUSED[name]}")
    if target == "helm":
        for name in (*_list_given(deployment), *_list_given_settings(settings)):
            if name in REFUSED_BY_CHART:
                raise DefinitionError(
                    f"{where}: NVIDIA's chart deploy/k8s-onprem has no value for {name}: {REFUSED_BY_CHART[name]}. "
                    "Use --to kserve, or edit the chart"
                )
    longest = _LONGEST_NAME if target == "kserve" else _LONGEST_RELEASE
    if not _NAME.fullmatch(deployment.name) or len(deployment.name) > longest:
        raise DefinitionError(
            f"{where}: not a name on Kubernetes (expected up to {longest} of a-z, 0-9 and '-', a letter "
            "first). Give --name"
        )
    for label, value in deployment.tags.items():
        if not _LABEL_NAME.fullmatch(label) or not _LABEL_VALUE.fullmatch(value):
            raise DefinitionError(
                f"{where}: the tag {label}={value} is not a label of Kubernetes (expected up to 63 letters, digits, "
                "'-', '_' and '.')"
            )
    if MANAGED_BY in deployment.tags:
        raise DefinitionError(
            f"{where}: the label {MANAGED_BY} is tritonforge's own: destroy deletes the objects that have it. Remove "
            "the tag"
        )
    for variable in deployment.environment:
        if not _VARIABLE.fullmatch(variable):
            raise DefinitionError(f"{where}: {variable!r} is not the name of a variable")


def _list_given(deployment: Deployment) -> list[str]:
    """Return the fields of a deployment that differ from their defaults."""
    plain = Deployment(name=deployment.name)
    return [field.name for field in fields(Deployment) if getattr(deployment, field.name) != getattr(plain, field.name)]


def _list_given_settings(settings: ClusterSettings) -> list[str]:
    plain = ClusterSettings()
    return [
        field.name for field in fields(ClusterSettings) if getattr(settings, field.name) != getattr(plain, field.name)
    ]
