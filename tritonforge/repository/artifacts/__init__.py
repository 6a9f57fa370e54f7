"""Model files: make them from a definition, read their inputs and outputs, hold them against what was stated."""

from __future__ import annotations

from tritonforge.repository.artifacts.agreement import check, complete
from tritonforge.repository.artifacts.child import make_in_child
from tritonforge.repository.artifacts.fingerprint import fingerprint
from tritonforge.repository.artifacts.introspect import introspect
from tritonforge.repository.artifacts.make import make
from tritonforge.repository.artifacts.maker import ArtifactMaker
from tritonforge.repository.artifacts.signature import Signature, TensorInfo

__all__ = [
    "ArtifactMaker",
    "Signature",
    "TensorInfo",
    "check",
    "complete",
    "fingerprint",
    "introspect",
    "make",
    "make_in_child",
]
