"""What a SageMaker host does: it downloads a model, unpacks it, and runs its container, here a real tritonserver.

`start` gives a `Running`, or raises `ContainerError`, whose text is the endpoint's FailureReason; `Running.stop` ends
it. `Host` is the same with `Limits` of what a multi-model container may have loaded.
"""

from __future__ import annotations

from tritonforge.emulator.hosting.definitions import (
    ContainerDefinition,
    ContainerError,
    ContainerGoneError,
    ContainerTimeoutError,
    ModelData,
    TargetModelError,
    UnhealthyError,
    Variant,
    container_definitions,
)
from tritonforge.emulator.hosting.host import Host, Running, start
from tritonforge.emulator.hosting.multi_model import Limits

__all__ = [
    "ContainerDefinition",
    "ContainerError",
    "ContainerGoneError",
    "ContainerTimeoutError",
    "Host",
    "Limits",
    "ModelData",
    "Running",
    "TargetModelError",
    "UnhealthyError",
    "Variant",
    "container_definitions",
    "start",
]
