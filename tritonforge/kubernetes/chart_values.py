"""Values for NVIDIA's chart deploy/k8s-onprem of the server's repository. No I/O.

Source: server deploy/k8s-onprem (values.yaml, templates) of 26.07, chart version 1.0.0.
"""

from __future__ import annotations

import re
from typing import Any, Final

from tritonforge.errors import DefinitionError
from tritonforge.kubernetes.container_image import choose_container_image
from tritonforge.kubernetes.field_support import check_support
from tritonforge.kubernetes.repository_needs import DEFAULT_SHARED_MEMORY, RepositoryNeeds
from tritonforge.kubernetes.serving_runtime import build_control_flags
from tritonforge.kubernetes.settings import ClusterSettings
from tritonforge.sagemaker.endpoints.deployment import Deployment

__all__ = ["CHART", "build_chart_values", "list_chart_notes"]

CHART: Final = "deploy/k8s-onprem"
#: The chart mounts an NFS export at /models.
_EXPORT: Final = re.compile(r"nfs://(?P<server>[^/\s]+)(?P<path>/\S*)")
#: The namespace in the chart's query of Prometheus (values.yaml, prometheus-adapter.rules).
_NAMESPACE: Final = "default"


def build_chart_values(deployment: Deployment, settings: ClusterSettings, needs: RepositoryNeeds) -> dict[str, Any]:
    """Return the values that make the chart serve a deployment; what they do not name keeps the chart's default.

    Raises:
        DefinitionError: the chart has no value for a setting, or the Python models do not start with its /dev/shm.
    """
    check_support(deployment, settings, "helm")
    match = _EXPORT.fullmatch(settings.storage_uri or "")
    if match is None:
        raise DefinitionError(
            f"deployment {deployment.name}: the chart reads the repository from NFS (expected --storage-uri "
            f"nfs://SERVER/PATH, got {settings.storage_uri})"
        )
    if needs.start_memory > DEFAULT_SHARED_MEMORY:
        raise DefinitionError(
            f"deployment {deployment.name}: the Python models take {needs.start_memory} bytes of shared memory when "
            f"they start: the chart's pods have {DEFAULT_SHARED_MEMORY}. Use fewer instances, or --to kserve"
        )
    if settings.min_replicas == 0:
        raise DefinitionError("replicas 0: the chart's autoscaler keeps one replica at least (expected MIN from 1)")
    values: dict[str, Any] = {
        "image": {
            "imageName": choose_container_image(deployment),
            "modelRepositoryServer": match["server"],
            "modelRepositoryPath": match["path"],
            "numGpus": settings.gpus or 0,
        },
        "serverArgs": ["--model-repository=/models", *build_control_flags(settings)],
    }
    count = deployment.initial_instance_count or 1
    least = settings.min_replicas or count
    most = settings.max_replicas or max(least, count)
    values["autoscaling"] = {"minReplicas": least, "maxReplicas": most}
    values["tags"] = {"autoscaling": most > least}
    return values


def list_chart_notes(settings: ClusterSettings, needs: RepositoryNeeds) -> list[str]:
    """Return sentences about what the chart does with the deployment."""
    notes = [f"install it with helm: helm install NAME {CHART} --values values.yaml --namespace {settings.namespace}"]
    if needs.full_memory > DEFAULT_SHARED_MEMORY:
        notes.append(
            f"after a full batch of each instance the Python models hold {needs.full_memory} bytes of shared memory: "
            f"the chart's pods have {DEFAULT_SHARED_MEMORY}, and the request then fails"
        )
    if (settings.max_replicas or 1) > (settings.min_replicas or 1):
        notes.append(
            "the chart's autoscaler is of autoscaling/v2beta2, which Kubernetes has had no more since 1.26; change "
            "templates/hpa.yaml to autoscaling/v2 there"
        )
    if settings.namespace != _NAMESPACE:
        notes.append(
            f"the chart's autoscaling query names the namespace {_NAMESPACE!r}; change it in "
            "prometheus-adapter.rules.custom"
        )
    return notes
