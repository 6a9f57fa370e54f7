"""The report for people: each finding with its line and a caret under the place, as compilers tell it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tritonforge.cli.reports.judged import Judged
from tritonforge.escaping import terminal_line
from tritonforge.validation.findings import Finding

__all__ = ["render"]

#: What the real server says, by `ServerVerdict.loads`.
_SERVER = {True: "loads it", False: "refuses it", None: "they do not decide"}

#: A longer line is shown around the place only.
_WIDTH = 110


def render(judged: Sequence[Judged]) -> str:
    """The findings of each repository, and a line that sums them up."""
    return "\n".join(line for each in judged for line in _repository(each))


def _repository(judged: Judged) -> Iterator[str]:
    for finding in judged.shown:
        yield from _finding(judged, finding)
    yield f"{terminal_line(judged.repository)}: {judged.summary()}"
    if judged.server is not None:
        yield f"the real server, with stand-ins for the models: {_SERVER[judged.server.loads]}"
        yield from (f"  {terminal_line(sentence)}" for sentence in judged.server.messages)
        for model, reason in judged.server.undecided.items():
            what = f"not decidable by stand-ins: {model}: {reason}" if model else f"not decidable: {reason}"
            yield terminal_line(what)
        yield from (f"difference: {terminal_line(sentence)}" for sentence in judged.server.differences)


def _finding(judged: Judged, finding: Finding) -> Iterator[str]:
    place = terminal_line(judged.where(finding))
    if finding.line is not None:
        place += f":{finding.line}" + (f":{finding.column}" if finding.column is not None else "")
    yield f"{place}: {finding.severity} {finding.code}: {terminal_line(finding.message)}"
    lines = judged.texts.get(finding.path, "").splitlines()
    if finding.line is not None and 0 < finding.line <= len(lines):
        number = f"{finding.line:5d}"
        shown, column = _around(lines[finding.line - 1], finding.column or 1)
        yield f"{number} | {shown}"
        yield f"{' ' * len(number)} | {' ' * (column - 1)}^"
    if finding.help:
        yield f"        help: {terminal_line(finding.help)}"


def _around(line: str, column: int) -> tuple[str, int]:
    line = line.replace("\t", " ")
    start = 0 if len(line) <= _WIDTH or column < _WIDTH - 10 else column - _WIDTH // 2
    return line[start : start + _WIDTH], column - start
