"""A Kubernetes cluster: reads, server-side apply, deletes, the pods of a service. The only importer of the client."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tritonforge.errors import ConnectError, DefinitionError, DeploymentError, MissingExtraError
from tritonforge.kubernetes.serving_runtime import MANAGER

__all__ = ["Cluster", "ClusterError"]

_APPLY: Final = "application/apply-patch+yaml"
#: Seconds for one call. Source: kubectl's own default for discovery is 32 s.
_TIMEOUT: Final = 30
_LABEL: Final = "serving.kserve.io/inferenceservice"
#: The resources of the manifests, by kind.
_PLURALS: Final = {"ServingRuntime": "servingruntimes", "InferenceService": "inferenceservices"}


class ClusterError(DeploymentError):
    """The API server refused a call; ``status`` is HTTP's, ``message`` its own sentence."""

    def __init__(self, where: str, status: int, message: str) -> None:
        super().__init__(f"{where}: the API server answered {status}: {message}. {_advise(status, message)}".rstrip())
        self.status = status
        self.message = message


def _advise(status: int, message: str) -> str:
    if status == 401:
        return "Sign in to the cluster again"
    if status == 403:
        return "Ask for a role with the verbs get, patch and delete on servingruntimes and inferenceservices"
    if status == 404 and "could not find the requested resource" in message:
        return "Install KServe in the cluster"
    if status == 404 and "page not found" in message:
        return "Install KServe in the cluster"
    if status == 409 and "precondition" in message.lower():
        return "Another object has this name since the plan was made. Run it again"
    if status == 409 and "conflict" in message.lower():
        return "Another program owns these fields; take them over with --force-conflicts"
    return ""


class Cluster:
    """The cluster of a kubeconfig's context, or the one in whose pod the program runs.

    Args:
        context: the context of the kubeconfig; None for its current one.

    Raises:
        MissingExtraError: the extra ``kubernetes`` is not installed.
        DefinitionError: no kubeconfig can be used, or it has no such context.
    """

    def __init__(self, context: str | None = None) -> None:
        try:
            import kubernetes
        except ModuleNotFoundError as error:
            raise MissingExtraError("kubernetes", extra="kubernetes") from error
        configuration = kubernetes.client.Configuration()
        try:
            if context is None and _is_in_pod():
                kubernetes.config.load_incluster_config(client_configuration=configuration)
            else:
                kubernetes.config.load_kube_config(
                    config_file=_find_kubeconfig(), context=context, client_configuration=configuration
                )
        except kubernetes.config.ConfigException as error:
            raise DefinitionError(f"kubeconfig: {error}. Set KUBECONFIG, or give --context") from error
        configuration.retries = 0  # a plan is repeated by its user; a retry would hide a server that is down
        self._client = kubernetes.client.ApiClient(configuration)
        self._objects = kubernetes.client.CustomObjectsApi(self._client)
        self._applier = kubernetes.client.ApiClient(configuration)
        # The calls of custom objects take a content type since version 36 of the client only.
        self._applier.set_default_header("Content-Type", _APPLY)
        self._applied = kubernetes.client.CustomObjectsApi(self._applier)
        self._pods = kubernetes.client.CoreV1Api(self._client)
        self._failure: type[Exception] = kubernetes.client.ApiException
        #: The address of the API server.
        self.server = str(configuration.host)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._applier.close()

    def read(self, manifest: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the stored object that a manifest names, None if it does not exist.

        Raises:
            ClusterError, ConnectError: the API server refused the call, or did not answer.
        """
        try:
            with self._map_errors(_describe(manifest)):
                stored: dict[str, Any] = self._objects.get_namespaced_custom_object(
                    **_locate(manifest), _request_timeout=_TIMEOUT
                )
                return stored
        except ClusterError as error:
            if error.status == 404 and "not found" in error.message and "page not found" not in error.message:
                return None
            raise

    def apply(self, manifest: Mapping[str, Any], *, dry_run: bool, force: bool = False) -> dict[str, Any]:
        """Apply a manifest on the server's side and return the object as it is stored, or would be.

        ``force`` takes over fields that another manager owns. Unknown fields are refused, not dropped.

        Raises:
            ClusterError, ConnectError: the API server, or a webhook, refused it, or did not answer.
        """
        with self._map_errors(_describe(manifest)):
            applied: dict[str, Any] = self._applied.patch_namespaced_custom_object(
                **_locate(manifest),
                body=dict(manifest),
                field_manager=MANAGER,
                field_validation="Strict",
                force=force,
                **({"dry_run": "All"} if dry_run else {}),
                _request_timeout=_TIMEOUT,
            )
            return applied

    def delete(self, manifest: Mapping[str, Any]) -> None:
        """Delete the object that a manifest names by its ``uid``; one that is gone is not an error.

        What belongs to it, such as pods, is deleted after it.

        Raises:
            ClusterError, ConnectError: another object has the name by now; or as `read`.
        """
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": manifest["metadata"]["uid"]},
            "propagationPolicy": "Background",
        }
        try:
            with self._map_errors(_describe(manifest)):
                self._objects.delete_namespaced_custom_object(
                    **_locate(manifest), body=options, _request_timeout=_TIMEOUT
                )
        except ClusterError as error:
            if error.status != 404:
                raise

    def list_pods(self, service: Mapping[str, Any]) -> list[dict[str, Any]] | None:
        """Return the pods of an InferenceService, None if the user may not read them. Raises as `read`."""
        metadata = service["metadata"]
        try:
            with self._map_errors(f"pods of {metadata['name']}"):
                listed = self._pods.list_namespaced_pod(
                    metadata["namespace"], label_selector=f"{_LABEL}={metadata['name']}", _request_timeout=_TIMEOUT
                )
                pods: list[dict[str, Any]] = self._client.sanitize_for_serialization(listed)["items"]
                return pods
        except ClusterError as error:
            if error.status == 403:
                return None
            raise

    @contextmanager
    def _map_errors(self, where: str) -> Iterator[None]:
        import urllib3

        try:
            yield
        except self._failure as error:
            raise ClusterError(where, int(getattr(error, "status", 0) or 0), _read_message(error)) from error
        except urllib3.exceptions.HTTPError as error:
            raise ConnectError(
                f"{where}: no answer from {self.server}: {error}. Check the cluster's address"
            ) from error


def _find_kubeconfig() -> str:
    """Return the paths of the kubeconfig, as kubectl finds them; now, not when the client was imported."""
    return os.environ.get("KUBECONFIG") or str(Path("~/.kube/config").expanduser())


def _is_in_pod() -> bool:
    """Return True in a pod without a kubeconfig of its own, whose service account then signs in."""
    has_file = any(Path(path).is_file() for path in _find_kubeconfig().split(os.pathsep) if path)
    return "KUBERNETES_SERVICE_HOST" in os.environ and not has_file


def _describe(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def _locate(manifest: Mapping[str, Any]) -> dict[str, str]:
    group, _, version = str(manifest["apiVersion"]).partition("/")
    metadata = manifest["metadata"]
    return {
        "group": group,
        "version": version,
        "namespace": metadata["namespace"],
        "plural": _PLURALS[manifest["kind"]],
        "name": metadata["name"],
    }


def _read_message(error: Exception) -> str:
    """Return the sentence of the API server's Status object, or the answer's text."""
    body = getattr(error, "body", None) or ""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    try:
        return str(json.loads(text)["message"]).strip()
    except (ValueError, KeyError, TypeError):
        return text.strip() or str(getattr(error, "reason", "") or error)
