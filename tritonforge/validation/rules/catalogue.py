"""The catalogue of rules: what each code means, where its rule comes from, a bad and a good example. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Final

from tritonforge.pbtxt import Node
from tritonforge.validation.findings import Finding, RefusedBy, Severity

__all__ = ["OF_BACKENDS", "ROOMS", "Rule", "advice", "refused", "rules_by_code"]

#: The modules of this package that hold rules; each exports ``RULES`` and ``check(context)``.
ROOMS: Final = (
    "layout",
    "checksums",
    "text",
    "model",
    "ensemble",
    "addresses",
    "advisories",
    "requests",
    "sagemaker",
    "dali",
    "image_rules",
    "releases",
    "shell",
    "tfs",
)

#: Rules of backends that open a model's files and environment. Triton's core knows nothing of them.
OF_BACKENDS: Final = ("E122", "E123", "E125", "E295")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One rule: its code, its sentence as a template, and what `tritonforge explain` says of it.

    ``source`` names the function and file of Triton (or the document's section) that the rule comes from; ``bad`` and
    ``good`` are short pieces of a config.pbtxt, or of a tree.
    """

    code: str
    severity: Severity
    refused_by: RefusedBy | None
    summary: str
    source: str
    why: str
    bad: str
    good: str

    def finding(
        self,
        message: str,
        *,
        path: str,
        node: Node | None = None,
        field: str = "",
        help: str = "",  # noqa: A002 - the finding's own name
    ) -> Finding:
        """The finding of this rule; its place is that of ``node``, or line 1 of ``path`` when there is none."""
        return Finding(
            code=self.code,
            severity=self.severity,
            refused_by=self.refused_by,
            path=_printable(path),
            line=node.line if node is not None else 1 if path.endswith(".pbtxt") else None,
            column=node.column if node is not None else 1 if path.endswith(".pbtxt") else None,
            field=field or (node.path if node is not None else ""),
            message=_printable(message),
            help=_printable(help),
        )


def refused(code: str, summary: str, *, source: str, why: str, bad: str, good: str) -> Rule:
    """A rule that Triton refuses to break."""
    return Rule(
        code=code, severity="error", refused_by="triton", summary=summary, source=source, why=why, bad=bad, good=good
    )


def advice(code: str, summary: str, *, source: str, why: str, bad: str, good: str) -> Rule:
    """A rule that Triton does not hold anybody to."""
    return Rule(
        code=code, severity="warning", refused_by=None, summary=summary, source=source, why=why, bad=bad, good=good
    )


@lru_cache(maxsize=1)
def rules_by_code() -> Mapping[str, Rule]:
    """Every rule of every room by its code, sorted."""
    rules: dict[str, Rule] = {}
    for room in ROOMS:
        for rule in import_module(f"tritonforge.validation.rules.{room}").RULES:
            if rules.setdefault(rule.code, rule) is not rule:
                raise AssertionError(f"two rules have the code {rule.code}")
    return dict(sorted(rules.items()))


def _printable(text: str) -> str:
    """Text that any terminal and any JSON reader takes: bytes that are not UTF-8 become escapes."""
    if text.isascii():
        return text
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a surrogate that stands for no byte
        return text.encode("utf-8", "backslashreplace").decode("utf-8")
