"""The work of a SageMaker host: it downloads a model, unpacks it, and runs its container, here a real tritonserver.

`start` returns a `HostedContainer` or raises `ContainerError`, whose text is the endpoint's FailureReason. `Host` does
the same with `Limits` of the models that a multi-model container may have loaded.
"""

from __future__ import annotations

from tritonforge.emulator.hosting.container_definitions import (
    ContainerDefinition,
    ContainerError,
    ContainerGoneError,
    ContainerTimeoutError,
    ModelData,
    TargetModelError,
    UnhealthyError,
    Variant,
    list_container_definitions,
)
from tritonforge.emulator.hosting.container_host import Host, HostedContainer, start
from tritonforge.emulator.hosting.multi_model import Limits

__all__ = ["ContainerDefinition", "ContainerError", "ContainerGoneError", "ContainerTimeoutError", "Host",
           "HostedContainer", "Limits", "ModelData", "TargetModelError", "UnhealthyError", "Variant",
           "list_container_definitions", "start"]  # fmt: skip
