"""A service of KServe on an API server: its settings in tests, and what KServe's controller and the kubelet write."""

from __future__ import annotations

from typing import Any

import kubernetes

from tritonforge.kubernetes import ClusterSettings
from tritonforge.kubernetes.cluster_deployment import ClusterDeployment
from tritonforge.kubernetes.inference_service import REVISION

SETTINGS = ClusterSettings(storage_uri="pvc://models/digits", memory="4Gi")
GROUP = {"group": "serving.kserve.io", "version": "v1beta1", "namespace": "default", "plural": "inferenceservices"}


class Controller:
    """What KServe's controller and the kubelet write, one step at a time."""

    def __init__(self, client: Any, name: str, revision: str) -> None:
        self._client = client
        self._objects = kubernetes.client.CustomObjectsApi(client)
        self._pods = kubernetes.client.CoreV1Api(client)
        self.name, self._revision = name, revision

    def write_status(self, **status: Any) -> None:
        """Write the status of the service."""
        self._client.set_default_header("Content-Type", "application/merge-patch+json")
        self._objects.patch_namespaced_custom_object_status(**GROUP, name=self.name, body={"status": status})

    def create_pod(self, **status: Any) -> None:
        """Create a pod of the service with a status."""
        labels = {"serving.kserve.io/inferenceservice": self.name}
        annotations = {REVISION: self._revision}
        name = f"{self.name}-{self._revision}"
        self._client.set_default_header("Content-Type", "application/json")
        self._pods.create_namespaced_pod(
            "default",
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "labels": labels, "annotations": annotations},
                "spec": {"containers": [{"name": "kserve-container", "image": "i"}]},
            },
        )
        self.update_pod(**status)

    def delete_pod(self) -> None:
        """Delete the pod."""
        self._client.set_default_header("Content-Type", "application/json")
        name = f"{self.name}-{self._revision}"
        self._pods.delete_namespaced_pod(name, "default", grace_period_seconds=0)

    def update_pod(self, **status: Any) -> None:
        """Write the status of the pod."""
        name = f"{self.name}-{self._revision}"
        self._client.set_default_header("Content-Type", "application/merge-patch+json")
        self._pods.patch_namespaced_pod_status(name, "default", {"status": status})


READY = {"type": "Ready", "status": "True"}
WAITING = {
    "containerStatuses": [
        {"name": "kserve-container", "image": "i", "imageID": "", "ready": False, "restartCount": 0,
         "state": {"waiting": {"reason": "ImagePullBackOff", "message": "back-off"}}},
    ]
}  # fmt: skip


def control(deployment: ClusterDeployment, client: Any) -> Controller:
    """Return the controller of the service that a deployment has applied."""
    manifest = deployment.plan().manifests[-1]
    return Controller(client, manifest["metadata"]["name"], manifest["spec"]["predictor"]["annotations"][REVISION])
