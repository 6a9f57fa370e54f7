"""Model files: make them from a definition, read their inputs and outputs, hold them against what was stated."""

from __future__ import annotations

from tritonforge.model_files.introspection import introspect
from tritonforge.model_files.signature import Signature, TensorSpec
from tritonforge.repository.artifacts.artifact_builder import ArtifactMaker
from tritonforge.repository.artifacts.artifact_content import make
from tritonforge.repository.artifacts.child_process import make_in_child
from tritonforge.repository.artifacts.fingerprint import fingerprint
from tritonforge.repository.artifacts.signature_check import check, complete

__all__ = [
    "ArtifactMaker",
    "Signature",
    "TensorSpec",
    "check",
    "complete",
    "fingerprint",
    "introspect",
    "make",
    "make_in_child",
]
