"""Where findings are shown in a file of the repository, and what solves them. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tritonforge.language_server.positions import Span, find_finding_offset
from tritonforge.validation.findings import Finding
from tritonforge.validation.tree import Tree

__all__ = ["Fix", "Replacement", "find_span", "group_findings", "list_suggestions", "replace_text"]

_WORD: Final = re.compile(r"[\w.+-]+")
_STRING: Final = re.compile(r"\"(?:[^\"\\\n]|\\[^\n])*\"?|'(?:[^'\\\n]|\\[^\n])*'?")
_NAME_BEFORE: Final = re.compile(r"\w+[ \t]*:?[ \t]*\[?[ \t]*\Z", re.ASCII)
_UNREADABLE: Final = "E200"
_SUGGESTION: Final = re.compile(r"did you mean ([\w./ -]+)\?")


@dataclass(frozen=True, slots=True)
class Replacement:
    """New text for a part of a file; ``path`` is relative to the repository, and a new file has the span (0, 0)."""

    path: str
    span: Span
    text: str


@dataclass(frozen=True, slots=True)
class Fix:
    """A change that solves findings: its title, what is replaced, and the files that are created first."""

    title: str
    replacements: Sequence[Replacement]
    created: Sequence[str]
    findings: Sequence[Finding]
    is_preferred: bool = False


def find_span(text: str, finding: Finding) -> Span:
    """Return the part of a file that a finding is about: the token at its place, or the field whose message begins."""
    if finding.line is None:
        return Span(0, 0)
    start = find_finding_offset(text, finding.line, finding.column or 1)
    first = text[start : start + 1]
    if first in ('"', "'"):
        match = _STRING.match(text, start)
    elif first in ("{", "<"):
        before = _NAME_BEFORE.search(text, max(0, start - 200), start)
        return Span(before.start() if before is not None else start, start + 1)
    else:
        match = _WORD.match(text, start)
    if match is not None:
        return Span(start, match.end())
    end = start + 1 if first and first not in "\r\n" else start
    return Span(start, end)


def group_findings(tree: Tree, findings: Iterable[Finding]) -> Mapping[str, list[tuple[Finding, bool]]]:
    """Return the findings by the file that shows them, with True where that is not the file that they are about.

    A finding about a directory or a missing file is shown in the model's config.pbtxt. That the text cannot be read
    (E200) is not shown where another finding at its place gives the reason.
    """
    listed = list(findings)
    reasons = {(finding.path, finding.line, finding.column) for finding in listed if finding.code != _UNREADABLE}
    grouped: dict[str, list[tuple[Finding, bool]]] = {}
    for finding in listed:
        if finding.code == _UNREADABLE and (finding.path, finding.line, finding.column) in reasons:
            continue
        path = finding.path
        if not tree.is_file(path):
            path = f"{path.partition('/')[0]}/config.pbtxt"
        grouped.setdefault(path, []).append((finding, path != finding.path))
    return grouped


def list_suggestions(text: str, path: str, findings: Iterable[Finding]) -> Iterator[Fix]:
    """Yield the changes that a finding's help proposes: a name instead of an unknown one."""
    for finding in findings:
        match = _SUGGESTION.search(finding.help)
        if match is None or finding.line is None:
            continue
        span = find_span(text, finding)
        token = text[span.start : span.end]
        quote = token[:1] if token[:1] in ("'", '"') else ""
        if re.fullmatch(r"\w+", match[1] + token) or quote:
            replacement = Replacement(path, span, f"{quote}{match[1]}{quote}")
            yield Fix(f"Replace with {match[1]}", (replacement,), (), (finding,))


def replace_text(path: str, old: str, new: str) -> Replacement:
    """Return the shortest replacement that makes one text of the other."""
    start = 0
    most = min(len(old), len(new))
    while start < most and old[start] == new[start]:
        start += 1
    end = 0
    while end < most - start and old[-1 - end] == new[-1 - end]:
        end += 1
    return Replacement(path, Span(start, len(old) - end), new[start : len(new) - end])
