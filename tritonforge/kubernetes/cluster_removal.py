r"""The removal of a service from a cluster: plan, submit, watch, result. The command line asks and prints.

    removal = ClusterRemoval("digits", "default", cluster=Cluster())
    print("\n".join(render_plan(removal.plan())))
    removal.submit()
    removal.result()

Removed is what `tritonforge.kubernetes.cluster_deployment` creates; the objects at the storageUri stay.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from tritonforge.errors import DeploymentError
from tritonforge.kubernetes.cluster import Cluster
from tritonforge.kubernetes.cluster_plan import ClusterPlan, ManifestStep
from tritonforge.kubernetes.serving_runtime import MANAGED_BY, is_managed, read_labels
from tritonforge.sagemaker.plans.plan import Progress, SilentProgress

__all__ = ["ClusterRemoval"]

#: Seconds between two looks at what is left.
_INTERVAL: Final = 2.0
#: What a deployment consists of, in the order in which it is removed: a service refers to its runtime.
_RESOURCES: Final = (
    ("serving.kserve.io/v1beta1", "InferenceService"),
    ("serving.kserve.io/v1alpha1", "ServingRuntime"),
)


class ClusterRemoval:
    """The removal of the InferenceService and the ServingRuntime of a name, if tritonforge created them.

    Args:
        name: the name of the service.
        namespace: its namespace.
        cluster: the cluster that is read and changed.
        timeout: seconds until a service that still exists is an error.
        progress: shows the steps.
    """

    def __init__(
        self,
        name: str,
        namespace: str,
        cluster: Cluster,
        *,
        timeout: float = 300,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name, self.namespace = name, namespace
        self._cluster, self._timeout = cluster, timeout
        self.progress: Progress = SilentProgress() if progress is None else progress
        self._clock, self._sleep = clock, sleep
        self._plan: ClusterPlan | None = None

    def plan(self) -> ClusterPlan:
        """Return what would be deleted; changes nothing. An object without the label of tritonforge is only noted.

        The plan is made once.

        Raises:
            ClusterError, ConnectError: the API server refused a call, or did not answer.
        """
        if self._plan is None:
            self._plan = self._build_plan()
        return self._plan

    def submit(self) -> None:
        """Delete the objects of the plan; one that is gone, or was created anew since, is not touched.

        Raises:
            ClusterError, ConnectError: the API server refused a call; what was deleted before it is gone.
        """
        for step in self.plan().steps:
            self.progress.begin(f"delete {step.kind} {step.name}")
            self._cluster.delete(step.manifest)

    def watch(self) -> None:
        """Wait until the objects of the plan and the pods of the service are gone.

        Raises:
            DeploymentError: something still exists when the time is over; the message names it.
            ClusterError, ConnectError: the cluster cannot be read.
        """
        steps = self.plan().steps
        if not steps:
            return
        self.progress.begin(f"wait until {self.name} is gone")
        start = self._clock()
        while left := self._list_rest():
            if self._clock() - start > self._timeout:
                raise DeploymentError(
                    f"{self.name} in namespace {self.namespace}: not gone after {self._timeout:.0f} seconds: "
                    f"{'; '.join(left)}. Run it again, or give a longer --timeout"
                )
            self.progress.detail("; ".join(left))
            self._sleep(_INTERVAL)

    def result(self) -> None:
        """Wait until everything is gone. Raises as `watch` does."""
        self.watch()

    def _build_plan(self) -> ClusterPlan:
        steps, notes = [], []
        for version, kind in _RESOURCES:
            self.progress.begin(f"read {kind} {self.name}")
            named = {
                "apiVersion": version,
                "kind": kind,
                "metadata": {"name": self.name, "namespace": self.namespace},
            }
            stored = self._cluster.read(named)
            if stored is None:
                continue
            if not is_managed(stored):
                owner = read_labels(stored).get(MANAGED_BY)
                notes.append(
                    f"{kind} {self.name} stays: tritonforge did not create it (its label {MANAGED_BY} is {owner!r})"
                )
                continue
            steps.append(ManifestStep("delete", _name_object(named, stored)))
            if (address := _find_storage(stored)) is not None:
                notes.append(f"the repository at {address} stays")
        return ClusterPlan(
            target="kserve",
            name=self.name,
            namespace=self.namespace,
            digest="",
            steps=steps,
            server=self._cluster.server,
            notes=notes,
        )

    def _list_rest(self) -> list[str]:
        """Return what still exists of the plan's objects, and the pods of its service."""
        rest = []
        for step in self.plan().steps:
            stored = self._cluster.read(step.manifest)
            if stored is not None and stored["metadata"].get("uid") == step.manifest["metadata"].get("uid"):
                finalizers = ", ".join(stored["metadata"].get("finalizers") or ())
                rest.append(f"{step.kind} {step.name}" + (f" (finalizers: {finalizers})" if finalizers else ""))
            elif stored is None and step.kind == "InferenceService":
                rest += [f"pod {pod['metadata']['name']}" for pod in self._cluster.list_pods(step.manifest) or ()]
        return rest


def _name_object(named: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity of a stored object: its name, and the uid that no other object of the name has."""
    return {**named, "metadata": {**named["metadata"], "uid": stored["metadata"].get("uid")}}


def _find_storage(stored: Mapping[str, Any]) -> str | None:
    address = stored.get("spec", {}).get("predictor", {}).get("model", {}).get("storageUri")
    return None if address is None else str(address)
