"""One judged repository, as every report takes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tritonforge.repository.findings import Finding, Verdict, verdict

__all__ = ["Judged"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A repository's path as the user gave it, its findings, its models, and the texts that findings point into.

    ``server`` holds the real server's own sentences, None when it was not asked; ``differences`` says where it and the
    findings disagree. ``is_tfs_package`` says that it is a package for SageMaker's TensorFlow Serving containers.
    """

    repository: str
    findings: Sequence[Finding]
    models: Sequence[str] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    server: Sequence[str] | None = None
    differences: Sequence[str] = ()
    is_tfs_package: bool = False

    @property
    def verdict(self) -> Verdict:
        """What Triton, or TensorFlow Serving's container, would say."""
        return verdict(self.findings)

    def where(self, finding: Finding) -> str:
        """The path of a finding as the user can open it."""
        return f"{self.repository.rstrip('/')}/{finding.path}" if finding.path else self.repository
