"""What the status of an InferenceService and of its pods says: ready, on the way, or failed and why. No I/O.

Source: kserve/kserve v0.20.0 pkg/apis/serving/v1beta1/inference_service_status.go; Kubernetes' reference of Pod status.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.kubernetes.inference_service import REVISION

__all__ = ["Readiness", "find_failure", "read_readiness"]

#: States of ``status.modelStatus.transitionStatus`` from which nothing follows without a new specification.
_FAILED: Final = ("BlockedByFailedLoad", "InvalidSpec")
#: Reasons for which a container waits in the normal course of a start.
_STARTING: Final = ("ContainerCreating", "PodInitializing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """The state of a service: ``is_ready``, the address under which it answers, and what it waits for.

    ``failure`` is the sentence of a failure from which KServe does not recover by itself. ``reasons`` are the
    conditions that are not met and what containers wait for, in the words of Kubernetes.
    """

    is_ready: bool = False
    url: str = ""
    failure: str = ""
    reasons: Sequence[str] = ()

    def describe(self) -> str:
        """Return what the service waits for as one line."""
        return "; ".join(self.reasons) or "KServe has not written a status"


def read_readiness(service: Mapping[str, Any], pods: Sequence[Mapping[str, Any]] | None, revision: str) -> Readiness:
    """Return the state of a service.

    Args:
        service: the InferenceService as the API server returns it.
        pods: its pods; None if they cannot be read, so that the status of the service alone decides.
        revision: the annotation of the pods that run what was applied. The status of the service does not name it.
    """
    status = service.get("status") or {}
    conditions = [item for item in status.get("conditions") or () if isinstance(item, Mapping)]
    is_ready = any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)
    own = None if pods is None else [pod for pod in pods if _read_annotations(pod).get(REVISION) == revision]
    has_pods = own is None or any(map(_is_pod_ready, own)) or _scales_to_zero(service)
    reasons = [*_list_conditions(conditions), *(reason for pod in own or () for reason in _list_waits(pod))]
    if is_ready and not has_pods and not reasons:
        reasons = ["no pod of this revision is ready"]
    return Readiness(
        is_ready=is_ready and has_pods,
        url=str(status.get("url") or ""),
        failure=find_failure(service),
        reasons=reasons,
    )


def find_failure(service: Mapping[str, Any]) -> str:
    """Return why KServe has given up on a service, "" if it has not."""
    model = (service.get("status") or {}).get("modelStatus") or {}
    if model.get("transitionStatus") not in _FAILED:
        return ""
    failure = model.get("lastFailureInfo") or {}
    words = [str(failure[name]) for name in ("reason", "message") if failure.get(name)]
    code = f" (exit code {failure['exitCode']})" if failure.get("exitCode") else ""
    return (": ".join(words) or str(model["transitionStatus"])) + code


def _scales_to_zero(service: Mapping[str, Any]) -> bool:
    least = service.get("spec", {}).get("predictor", {}).get("minReplicas")
    return isinstance(least, int) and least == 0


def _read_annotations(pod: Mapping[str, Any]) -> Mapping[str, str]:
    annotations: Mapping[str, str] = pod.get("metadata", {}).get("annotations") or {}
    return annotations


def _is_pod_ready(pod: Mapping[str, Any]) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(item.get("type") == "Ready" and item.get("status") == "True" for item in conditions)


def _list_conditions(conditions: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for item in conditions:
        if item.get("status") != "True" and item.get("type") not in ("Ready", "Stopped"):
            words = [str(item[name]) for name in ("reason", "message") if item.get(name)]
            yield f"{item.get('type')}: {': '.join(words)}" if words else f"{item.get('type')}"


def _list_waits(pod: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a pod's scheduling and its containers wait for."""
    status = pod.get("status") or {}
    for item in status.get("conditions") or ():
        if item.get("type") == "PodScheduled" and item.get("status") == "False":
            yield f"pod {pod['metadata']['name']}: {item.get('reason')}: {item.get('message')}"
    for container in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
        state = container.get("state") or {}
        waiting, ended = state.get("waiting") or {}, state.get("terminated") or {}
        if waiting.get("reason") and waiting["reason"] not in _STARTING:
            last = (container.get("lastState") or {}).get("terminated") or {}
            message = waiting.get("message") or last.get("message") or ""
            yield f"{container.get('name')}: {waiting['reason']}" + (f": {message}" if message else "")
        elif ended.get("exitCode"):
            message = ended.get("message") or ended.get("reason")
            yield f"{container.get('name')}: ended with exit code {ended['exitCode']}: {message}"
