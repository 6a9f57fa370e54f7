"""A finding: one thing that validation has to say about a repository, with its place and what to do. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["UNJUDGED", "Finding", "RefusedBy", "Severity", "Verdict", "ordered", "verdict"]

Severity: TypeAlias = Literal["error", "warning"]
#: "sagemaker" is what SageMaker and its `serve` script refuse before Triton sees it, "tfs" its TensorFlow Serving
#: container; "tritonforge" is what `tritonforge serve` refuses although Triton may load it, for safety.
RefusedBy: TypeAlias = Literal["triton", "sagemaker", "tfs", "tritonforge"]
Verdict: TypeAlias = Literal["loads", "refused", "not judged"]

#: The rules whose findings say that a part of the repository was not read.
UNJUDGED: Final = frozenset({"E127", "E208"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing found: what, where, who refuses it, and what to do.

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
    """What the server would say.

    "refused" if and only if Triton, or TensorFlow Serving's container, refuses something; else "not judged" where a
    part of the repository was not read, so that the verdict is not known.
    """
    found = list(findings)
    if any(each.refused_by in ("triton", "tfs") for each in found):
        return "refused"
    return "not judged" if any(each.code in UNJUDGED for each in found) else "loads"


def ordered(findings: Iterable[Finding]) -> list[Finding]:
    """The findings without duplicates, sorted by path, line, column and code; the order of equals is kept."""
    unique = dict.fromkeys(findings)
    return sorted(unique, key=lambda each: (each.path, each.line or 0, each.column or 0, each.code))
