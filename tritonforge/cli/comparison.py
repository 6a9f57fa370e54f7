"""Our findings beside the real server's sentences: where the two disagree. Values in, values out."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tritonforge.repository.findings import Finding, verdict
from tritonforge.repository.rules.catalogue import OF_BACKENDS

__all__ = ["differences", "without_backends"]

#: What the stand-in server cannot judge: rules of the backends, which never open a model file there.
_BACKEND_RULES = re.compile("|".join(("E5", "E6", *OF_BACKENDS)))


def differences(findings: Sequence[Finding], messages: Sequence[str]) -> tuple[str, ...]:
    """One sentence for each disagreement: another verdict, or a sentence of the server that no finding has."""
    core = without_backends(findings)
    told = []
    ours = verdict(core)
    theirs = "refused" if messages else "loads"
    if ours not in (theirs, "not judged"):
        told.append(f"the server says {theirs}, the findings say {ours}")
    known = [_plain(each.message) for each in core]
    told += [
        f"only the server says: {message}"
        for message in messages
        if not any(each in _plain(message) or _plain(message) in each for each in known)
    ]
    return tuple(told)


def without_backends(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that a server with stand-in backends can judge: those of Triton's core."""
    return [each for each in findings if not _BACKEND_RULES.match(each.code)]


def _plain(sentence: str) -> str:
    return re.sub(r"\s+", " ", sentence).strip().rstrip(".;")
