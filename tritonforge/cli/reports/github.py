"""The report as GitHub Actions' workflow commands, which become annotations in a pull request.

Format: GitHub docs, "Workflow commands for GitHub Actions", setting an error message; data and property escapes as
@actions/core's `command.ts` makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tritonforge.cli.reports.judged import Judged
from tritonforge.escaping import github_data, github_property

__all__ = ["render"]


def render(judged: Sequence[Judged]) -> str:
    """One command a finding, and one for what is hidden."""
    return "\n".join(line for each in judged for line in _repository(each))


def _repository(judged: Judged) -> Iterator[str]:
    for finding in judged.shown:
        properties = {"file": judged.where(finding), "line": finding.line, "col": finding.column, "title": finding.code}
        told = ",".join(
            f"{key}={github_property(str(value))}" for key, value in properties.items() if value is not None
        )
        message = finding.message + (f"\nhelp: {finding.help}" if finding.help else "")
        yield f"::{finding.severity} {told}::{github_data(message)}"
    if judged.hidden:
        level = "error" if judged.is_refused else "notice"
        summary = github_data(f"{judged.repository}: {judged.summary()}")
        yield f"::{level} file={github_property(judged.repository)}::{summary}"
