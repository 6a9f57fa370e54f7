"""A job on SageMaker as the terminal shows it: its plan, its course, and what Ctrl-C does to it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

import click
from rich.markup import escape

from tritonforge.cli.printing import echo
from tritonforge.cli.terminal import Steps, err, out
from tritonforge.escaping import escape_line
from tritonforge.sagemaker.client import Session
from tritonforge.sagemaker.endpoints import Plan, render, to_json
from tritonforge.sagemaker.jobs import polling
from tritonforge.sagemaker.jobs.kinds import Kind

__all__ = ["COLOURS", "show", "told_line", "watched"]

_Ended = TypeVar("_Ended")

#: How statuses look.
COLOURS: Final = {"Completed": "green", "Failed": "red", "Stopped": "yellow"}


def show(plan: Plan, *, as_json: bool, only_plan: bool, said: Sequence[str] = ()) -> None:
    """The plan, with every request; as a document only where nothing else is asked for."""
    if as_json:
        if only_plan:
            echo(json.dumps(to_json(plan), indent=2))
        return
    if not plan.steps:
        out.print(f"{plan.name} in {plan.region}, account {plan.account}: nothing to do, AWS has it", markup=False)
        return
    for line in render(plan):
        out.print(escape_line(line), markup=False)
    for each in said:
        err.print(escape_line(f"finding: {each}"), markup=False)


def told_line(text: str) -> None:
    """A line of the job's own log."""
    err.print(f"[dim]{escape(text)}[/dim]")


def watched(session: Session, kind: Kind, name: str, progress: Steps, watch: Callable[[], _Ended]) -> _Ended | None:
    """How a job ended, by what ``watch`` returns; None where it goes on although this command does not.

    An interruption asks whether the job is to be stopped too; where nobody can be asked, or it is of a kind that cannot
    be stopped, it goes on.
    """
    progress.begin(f"{kind.noun} {name}")
    try:
        return watch()
    except KeyboardInterrupt:
        progress.end()
        if not kind.stop or not sys.stdin.isatty() or not _agreed(f"Stop the {kind.noun} {name} too?"):
            err.print(f"[yellow]note:[/yellow] the {kind.noun} {escape(name)} goes on without us")
            return None
        polling.stop(session, kind, name)
        progress.begin(f"stop {kind.noun} {name}")
        return watch()


def _agreed(question: str) -> bool:
    """Whether somebody says yes; who interrupts the question as well is told what goes on, as one who says no."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        err.print()
        return False
