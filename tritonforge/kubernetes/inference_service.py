"""The InferenceService of a deployment: where its repository lies, its replicas and their resources. No I/O.

Source: kserve/kserve v0.20.0 pkg/apis/serving/v1beta1 (component.go, predictor_model.go, inference_service_status.go).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tritonforge.errors import DefinitionError
from tritonforge.kubernetes.field_support import check_support
from tritonforge.kubernetes.repository_needs import RepositoryNeeds, choose_shared_memory
from tritonforge.kubernetes.serving_runtime import build_labels, build_serving_runtime
from tritonforge.kubernetes.settings import ClusterSettings, parse_memory
from tritonforge.sagemaker.endpoints.deployment import Deployment

__all__ = ["DIGEST", "REVISION", "build_manifests", "list_notes"]

#: Annotations of the pods. A pod keeps the repository that it downloaded when it started: when the content or a
#: setting changes, so does its revision, and the pods are replaced.
DIGEST: Final = "tritonforge/digest"
REVISION: Final = "tritonforge/revision"
#: What the service's webhook gives a container without resources. Source: config/configmap/inferenceservice.yaml.
_DEFAULT_MEMORY: Final = "2Gi"


def build_manifests(
    deployment: Deployment, settings: ClusterSettings, needs: RepositoryNeeds
) -> Sequence[Mapping[str, Any]]:
    """Return the manifests of a deployment in the order in which they are applied.

    Raises:
        DefinitionError: a setting has no meaning on Kubernetes, or the image or the storageUri is missing.
    """
    check_support(deployment, settings, "kserve")
    if settings.storage_uri is None:
        raise DefinitionError(
            f"deployment {deployment.name}: the storageUri is missing. Upload the repository and give --storage-uri, "
            "such as s3://bucket/repository or pvc://volume/repository"
        )
    _check_memory(settings, needs)
    runtime = build_serving_runtime(deployment, settings, needs)
    return runtime, _build_inference_service(deployment, settings, needs, runtime)


def _check_memory(settings: ClusterSettings, needs: RepositoryNeeds) -> None:
    """Check that the models' own shared memory fits into the memory of the container, of which it is a part."""
    if settings.shared_memory is not None and parse_memory(settings.shared_memory) < needs.start_memory:
        raise DefinitionError(
            f"shared memory of {settings.shared_memory}: the Python models take {needs.start_memory} bytes when they "
            "start. Give more with --shared-memory"
        )
    if settings.memory is not None and parse_memory(settings.memory) <= needs.full_memory:
        raise DefinitionError(
            f"memory of {settings.memory}: after a full batch the Python models hold {needs.full_memory} bytes "
            "of shared memory, which counts as memory of the container. Give more with --memory"
        )


def _build_inference_service(
    deployment: Deployment, settings: ClusterSettings, needs: RepositoryNeeds, runtime: Mapping[str, Any]
) -> dict[str, Any]:
    annotations: dict[str, str] = {}
    if settings.deployment_mode is not None:
        annotations["serving.kserve.io/deploymentMode"] = settings.deployment_mode
    if needs.has_own_stub:
        annotations["storage.kserve.io/readonly"] = "false"  # Triton makes the stub executable (W455)
    model: dict[str, Any] = {
        "modelFormat": {"name": "triton", "version": "2"},
        "runtime": deployment.name,
        "protocolVersion": "grpc-v2" if needs.is_decoupled else "v2",
        "storageUri": settings.storage_uri,
    }
    resources = _build_resources(settings)
    if resources:
        model["resources"] = {"requests": resources, "limits": dict(resources)}
    predictor: dict[str, Any] = {"annotations": {DIGEST: needs.digest}}
    if settings.service_account is not None:
        predictor["serviceAccountName"] = settings.service_account
    predictor |= _build_scaling(deployment, settings)
    predictor["model"] = model
    predictor["annotations"][REVISION] = _compute_revision(runtime["spec"], predictor)
    metadata: dict[str, Any] = {
        "name": deployment.name,
        "namespace": settings.namespace,
        "labels": build_labels(deployment),
    }
    if annotations:
        metadata["annotations"] = annotations
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": metadata,
        "spec": {"predictor": predictor},
    }


def _compute_revision(*parts: Mapping[str, Any]) -> str:
    """Return 16 hex digits of what a pod consists of, without what scales it."""
    scaling = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}
    kept = [{name: value for name, value in part.items() if name not in scaling} for part in parts]
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _build_resources(settings: ClusterSettings) -> dict[str, str]:
    resources = {"cpu": settings.cpu, "memory": settings.memory}
    if settings.gpus:
        resources["nvidia.com/gpu"] = str(settings.gpus)
    return {name: quantity for name, quantity in resources.items() if quantity is not None}


def _build_scaling(deployment: Deployment, settings: ClusterSettings) -> dict[str, Any]:
    count = deployment.initial_instance_count
    least = count if settings.min_replicas is None else settings.min_replicas
    most = count if settings.max_replicas is None else settings.max_replicas
    if least is not None and most is not None and most < least:
        raise DefinitionError(f"replicas {least}:{most}: the second number is the most (expected MIN:MAX)")
    scaling = {
        "minReplicas": least,
        "maxReplicas": most,
        "scaleMetric": settings.scale_metric,
        "scaleTarget": settings.scale_target,
    }
    return {name: value for name, value in scaling.items() if value is not None}


def list_notes(settings: ClusterSettings, needs: RepositoryNeeds) -> list[str]:
    """Return sentences about what the manifests leave to the cluster."""
    notes = []
    if needs.is_decoupled:
        notes.append("a model is decoupled, which Triton serves over gRPC only: the service's port is that of gRPC")
    if settings.memory is None:
        notes.append(
            f"no memory is given, so KServe's webhook sets its default, {_DEFAULT_MEMORY} unless the cluster changed "
            "it; give --memory"
        )
    if settings.shared_memory is None and (size := choose_shared_memory(needs)) is not None:
        notes.append(
            f"the volume at /dev/shm has {size}: twice what the Python models hold at least; tensors of variable size "
            "are not counted; --shared-memory overrides it"
        )
    return notes
