"""A finding: one thing that validation reports about a repository; and the report of all of them. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["UNJUDGED", "Finding", "RefusedBy", "Severity", "ValidationReport", "Verdict", "sort_findings", "verdict"]

Severity: TypeAlias = Literal["error", "warning"]
#: "sagemaker" is what SageMaker and its `serve` script refuse before Triton sees it, "tfs" its TensorFlow Serving
#: container, "kserve" what KServe loses on the way to Triton; "tritonforge" is what `tritonforge serve` refuses
#: although Triton may load it, for safety.
RefusedBy: TypeAlias = Literal["triton", "sagemaker", "kserve", "tfs", "tritonforge"]
Verdict: TypeAlias = Literal["loads", "refused", "not judged"]

#: The rules whose findings mean that a part of the repository was not read.
UNJUDGED: Final = frozenset({"E127", "E208"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One finding: what, where, who refuses it, and what to do.

    ``path`` is relative to the repository, with ``/`` ("" is the repository itself); ``line`` and ``column`` count
    from 1; ``field`` is the place in the configuration, such as ``input[0].dims[1]``; ``message`` holds the server's
    own words where it has any, with ``<repo>`` for the repository's folder; ``help`` is "" when no fix is known.
    """

    code: str
    severity: Severity
    refused_by: RefusedBy | None = None
    path: str = ""
    line: int | None = None
    column: int | None = None
    field: str = ""
    message: str
    help: str = ""


def verdict(findings: Iterable[Finding]) -> Verdict:
    """Return the server's verdict.

    "refused" if and only if Triton, or TensorFlow Serving's container, refuses something; else "not judged" where a
    part of the repository was not read, so that the verdict is unknown.
    """
    listed = list(findings)
    if any(finding.refused_by in ("triton", "tfs") for finding in listed):
        return "refused"
    return "not judged" if any(finding.code in UNJUDGED for finding in listed) else "loads"


def sort_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings without duplicates, sorted by path, line, column and code; the order of equals is kept."""
    unique = dict.fromkeys(findings)
    return sorted(unique, key=lambda finding: (finding.path, finding.line or 0, finding.column or 0, finding.code))


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """A validated repository: its findings, its models, and the texts that the findings point into, by path.

    ``is_tfs_package`` is True for a package for SageMaker's TensorFlow Serving containers, which Triton does not load;
    ``is_model`` where the directory itself has a config.pbtxt, so that it is probably one model.
    """

    findings: Sequence[Finding]
    models: Sequence[str]
    texts: Mapping[str, str]
    is_tfs_package: bool = False
    is_model: bool = False

    @property
    def verdict(self) -> Verdict:
        """The server's verdict."""
        return verdict(self.findings)
