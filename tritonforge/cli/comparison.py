"""Our findings beside the real server's sentences: where the two disagree. Values in, values out."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from tritonforge.validation.findings import Finding, verdict
from tritonforge.validation.rules.catalogue import OF_BACKENDS

__all__ = ["differences", "without_backends"]

#: What the stand-in server cannot judge: rules of the backends, which never open a model file there.
_BACKEND_RULES = re.compile("|".join(("E5", "E6", *OF_BACKENDS)))
_DEPENDS = re.compile(r"^ensemble '[^']*' depends on '(?P<step>[^']*)'")


def differences(
    findings: Sequence[Finding],
    messages: Sequence[str],
    *,
    loads: bool | None,
    undecided: Collection[str] = (),
) -> tuple[str, ...]:
    """One sentence for each disagreement: another verdict, or a sentence of the server that no finding has.

    ``loads`` is the server's verdict, None where it is not decided; ``undecided`` are the models on which the server
    does not decide, whose findings are not compared.
    """
    core = without_backends(findings)
    open_ = {*undecided, *(_model(each) for each in findings if each not in core and each.refused_by == "triton")}
    core = [each for each in core if _model(each) not in open_]
    core = [each for each in core if not ((found := _DEPENDS.search(each.message)) and found["step"] in open_)]
    disagreements = []
    ours, theirs = verdict(core), "loads" if loads else "refused"
    if loads is not None and ours != theirs and ours != "not judged":
        disagreements.append(f"the server says {theirs}, the findings say {ours}")
    known = [_plain(each.message) for each in core]
    disagreements += [
        f"only the server says: {message}"
        for message in messages
        if not any(each in _plain(message) or _plain(message) in each for each in known)
    ]
    return tuple(disagreements)


def _model(finding: Finding) -> str:
    return finding.path.split("/")[0]


def without_backends(findings: Sequence[Finding]) -> list[Finding]:
    """The findings that a server with stand-in backends can judge: those of Triton's core."""
    return [each for each in findings if not _BACKEND_RULES.match(each.code)]


def _plain(sentence: str) -> str:
    return re.sub(r"\s+", " ", sentence).strip().rstrip(".;")
