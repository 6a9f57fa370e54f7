"""What a deployment needs to know of a Kubernetes cluster that SageMaker does not ask for. No I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from tritonforge.errors import DefinitionError
from tritonforge.field_types import check_fields

__all__ = ["ClusterSettings", "DeploymentMode", "ScaleMetric", "parse_memory"]

DeploymentMode = Literal["Standard", "Knative"]
ScaleMetric = Literal["cpu", "memory", "concurrency", "rps"]

#: Source: Kubernetes' reference, "Quantity": a decimal number with m, or with a decimal or binary suffix.
_CPU: Final = re.compile(r"\d+(\.\d{1,3})?|\d+m")
_MEMORY: Final = re.compile(r"(\d+)(Ki|Mi|Gi|Ti|k|M|G|T)?")
_UNITS: Final = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
#: RFC 1123 labels. Source: Kubernetes' reference, "Object Names and IDs".
_LABEL: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def parse_memory(text: str) -> int:
    """Return a quantity of memory in bytes.

    Raises:
        DefinitionError: it is not a whole number with a suffix of Kubernetes.

    >>> parse_memory("2Gi")
    2147483648
    """
    match = _MEMORY.fullmatch(text)
    if match is None:
        raise DefinitionError(f"memory {text!r}: not a quantity (expected a number with Ki, Mi, Gi or Ti, such as 2Gi)")
    return int(match[1]) * _UNITS[match[2] or ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """Where and with what a deployment runs on Kubernetes.

    ``storage_uri`` is where the repository lies: the ``storageUri`` of KServe, or ``nfs://SERVER/PATH`` for NVIDIA's
    chart. ``cpu``, ``memory`` and ``gpus`` are requests and limits of a replica; None leaves them to the cluster.
    ``shared_memory`` is the size of /dev/shm, None for one that is computed from the models. ``load_models`` are the
    models of ``--model-control-mode=explicit``; without them every model is loaded. ``version`` is that of KServe.

    Raises:
        DefinitionError: a quantity or a name that Kubernetes would refuse, or settings that exclude each other.
    """

    namespace: str = "default"
    storage_uri: str | None = None
    service_account: str | None = None
    cpu: str | None = None
    memory: str | None = None
    gpus: int | None = None
    shared_memory: str | None = None
    min_replicas: int | None = None
    max_replicas: int | None = None
    scale_metric: ScaleMetric | None = None
    scale_target: int | None = None
    deployment_mode: DeploymentMode | None = None
    load_models: Sequence[str] = ()
    version: str | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "load_models", tuple(self.load_models))
        if not _LABEL.fullmatch(self.namespace):
            raise DefinitionError(
                f"namespace {self.namespace!r}: not a name of Kubernetes (expected up to 63 of a-z, 0-9 and '-')"
            )
        if self.cpu is not None and not _CPU.fullmatch(self.cpu):
            raise DefinitionError(f"cpu {self.cpu!r}: not a quantity (expected a number such as 2, 0.5 or 500m)")
        for quantity in (self.memory, self.shared_memory):
            if quantity is not None:
                parse_memory(quantity)
        self._check_memory()
        self._check_scaling()

    def _check_memory(self) -> None:
        if self.memory is None or self.shared_memory is None:
            return
        if parse_memory(self.shared_memory) >= parse_memory(self.memory):
            raise DefinitionError(
                f"shared memory of {self.shared_memory} leaves nothing of {self.memory}: what lies in /dev/shm counts "
                "as memory of the container. Give more memory"
            )

    def _check_scaling(self) -> None:
        if self.gpus is not None and self.gpus < 0:
            raise DefinitionError(f"gpus {self.gpus}: a number of GPUs is not negative")
        least, most = self.min_replicas, self.max_replicas
        if any(count is not None and count < 0 for count in (least, most)):
            raise DefinitionError("replicas: a number of replicas is not negative")
        if least is not None and most is not None and not max(least, 1) <= most:
            raise DefinitionError(f"replicas {least}:{most}: the second number is the most (expected MIN:MAX)")
        if (self.scale_metric is None) != (self.scale_target is None):
            raise DefinitionError("a scale metric and its target need each other")
        if self.scale_metric in ("concurrency", "rps") and self.deployment_mode == "Standard":
            raise DefinitionError(
                f"scale metric {self.scale_metric!r}: Knative's autoscaler has it (expected cpu or memory with the "
                "deployment mode Standard)"
            )

    def with_settings(self, **settings: Any) -> ClusterSettings:
        """Return the settings with others; those that are None are not changed."""
        return replace(self, **{name: value for name, value in settings.items() if value is not None})
