"""The ServingRuntime of a deployment: the Triton container with its flags, probes and shared memory. No I/O.

Source: kserve/kserve v0.20.0 config/runtimes/kserve-tritonserver.yaml (ports, directory, user, metrics);
server deploy/k8s-onprem/templates/deployment.yaml (probes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tritonforge.kubernetes.container_image import choose_container_image
from tritonforge.kubernetes.repository_needs import RepositoryNeeds, choose_shared_memory
from tritonforge.kubernetes.settings import ClusterSettings
from tritonforge.sagemaker.endpoints.deployment import Deployment

__all__ = ["MANAGED_BY", "MANAGER", "build_control_flags", "build_labels", "build_serving_runtime", "is_managed",
           "read_labels"]  # fmt: skip

#: The field manager of server-side apply, and the value of the label by which an object is this program's.
MANAGER: Final = "tritonforge"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"

_MODELS: Final = "/mnt/models"
_HTTP, _GRPC, _METRICS = 8080, 9000, 8002
_VOLUME: Final = "shared-memory"
#: Seconds between the calls of the startup probe, and until it gives up. Source: NVIDIA's chart (30 * 10 s).
_PERIOD: Final = 10
_STARTUP: Final = 300


def build_labels(deployment: Deployment) -> dict[str, str]:
    """Return the labels of every manifest: the deployment's tags, and who manages it."""
    return {MANAGED_BY: MANAGER, **dict(sorted(deployment.tags.items()))}


def read_labels(stored: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the labels of an object as the API server returns it."""
    labels: Mapping[str, str] = stored["metadata"].get("labels") or {}
    return labels


def is_managed(stored: Mapping[str, Any]) -> bool:
    """Return True if an object has the label that every manifest of tritonforge has."""
    return read_labels(stored).get(MANAGED_BY) == MANAGER


def build_control_flags(settings: ClusterSettings) -> list[str]:
    """Return the flags of Triton's model control mode."""
    if not settings.load_models:
        return ["--model-control-mode=none"]
    return ["--model-control-mode=explicit", *(f"--load-model={name}" for name in settings.load_models)]


def build_serving_runtime(deployment: Deployment, settings: ClusterSettings, needs: RepositoryNeeds) -> dict[str, Any]:
    """Return the ServingRuntime that runs the release for which the repository was validated.

    Raises:
        DefinitionError: the deployment has no image, or it is unknown.
    """
    memory = settings.shared_memory or choose_shared_memory(needs)
    startup = deployment.container_startup_health_check_timeout_in_seconds or _STARTUP
    container: dict[str, Any] = {
        "name": "kserve-container",
        "image": choose_container_image(deployment),
        "args": [
            "tritonserver",
            f"--model-repository={_MODELS}",
            f"--http-port={_HTTP}",
            f"--grpc-port={_GRPC}",
            f"--metrics-port={_METRICS}",
            *build_control_flags(settings),
        ],
        "ports": [_build_port(needs)],
        "readinessProbe": {"httpGet": _build_check("ready"), "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {"httpGet": _build_check("live"), "periodSeconds": 10, "failureThreshold": 3},
        "startupProbe": {
            "httpGet": _build_check("ready"),
            "periodSeconds": _PERIOD,
            "failureThreshold": -(-startup // _PERIOD),
        },
        "securityContext": {
            "runAsUser": 1000,
            "runAsNonRoot": True,
            "allowPrivilegeEscalation": False,
            "privileged": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec: dict[str, Any] = {
        "annotations": {"prometheus.kserve.io/path": "/metrics", "prometheus.kserve.io/port": str(_METRICS)},
        "supportedModelFormats": [{"name": "triton", "version": "2"}],
        "protocolVersions": ["v2", "grpc-v2"],
        "containers": [container],
    }
    if deployment.environment:
        container["env"] = [{"name": name, "value": value} for name, value in sorted(deployment.environment.items())]
    if memory is not None:
        container["volumeMounts"] = [{"name": _VOLUME, "mountPath": "/dev/shm"}]  # noqa: S108 - a path in the pod
        spec["volumes"] = [{"name": _VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": memory}}]
    return {
        "apiVersion": "serving.kserve.io/v1alpha1",
        "kind": "ServingRuntime",
        "metadata": {"name": deployment.name, "namespace": settings.namespace, "labels": build_labels(deployment)},
        "spec": spec,
    }


def _build_port(needs: RepositoryNeeds) -> dict[str, Any]:
    """Return the port to which KServe routes: gRPC where a model answers over nothing else.

    Source: docs/samples/v1beta1/triton/torchscript/torchscript_grpc.yaml (the name h2c).
    """
    if needs.is_decoupled:
        return {"name": "h2c", "containerPort": _GRPC, "protocol": "TCP"}
    return {"containerPort": _HTTP, "protocol": "TCP"}


def _build_check(state: str) -> dict[str, Any]:
    return {"path": f"/v2/health/{state}", "port": _HTTP}
