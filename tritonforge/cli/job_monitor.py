"""A job on SageMaker in the terminal: its plan, the question, its progress, and what Ctrl-C does to it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import click
from rich.markup import escape

from tritonforge.cli.options import SAGEMAKER, declare_option
from tritonforge.cli.printing import echo_json
from tritonforge.cli.terminal import Steps, err, escape_markup, note, out
from tritonforge.escaping import escape_line
from tritonforge.sagemaker.jobs.lifecycle import SageMakerJob
from tritonforge.sagemaker.plans.plan import Plan, render, to_json

__all__ = ["INTERRUPTED", "SubmitOptions", "choose_exit_code", "format_state", "print_error_line", "submit", "watch"]

_Result = TypeVar("_Result")

#: The exit code after an interruption, and of a job that was stopped.
INTERRUPTED: Final = 130

_COLOURS: Final = {"Completed": "green", "Failed": "red", "Stopped": "yellow"}


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """How far a job on SageMaker is taken."""

    only_plan: bool = declare_option(
        "--plan", is_flag=True, group=SAGEMAKER, help="Show every request and change nothing."
    )
    yes: bool = declare_option("-y", "--yes", is_flag=True, group=SAGEMAKER, help="Apply the plan without asking.")
    no_wait: bool = declare_option("--no-wait", is_flag=True, group=SAGEMAKER, help="Do not wait until it has ended.")


def submit(job: SageMakerJob[Any], options: SubmitOptions, progress: Steps, *, as_json: bool) -> bool:
    """Show the plan of a job, ask, and submit it. Return False if only the plan was requested.

    Raises:
        click.UsageError: the terminal cannot ask, and ``--yes`` is not given.
        click.Abort: the user declined.
    """
    plan = job.plan()
    progress.end()
    if as_json and options.only_plan:
        echo_json(to_json(plan))
    elif not as_json:
        _print_plan(plan, job.findings)
    if options.only_plan:
        return False
    if plan.steps and not options.yes:
        if as_json or not sys.stdin.isatty():
            raise click.UsageError("not a terminal; pass --yes to apply or --plan to preview")
        click.confirm("Apply this plan?", abort=True, err=True)
    job.submit()
    if options.no_wait:
        progress.end()
    return True


def _print_plan(plan: Plan, findings: tuple[str, ...]) -> None:
    if not plan.steps:
        out.print(f"{plan.name} in {plan.region}, account {plan.account}: nothing to do, AWS has it", markup=False)
        return
    for line in render(plan):
        out.print(escape_line(line), markup=False)
    for finding in findings:
        err.print(escape_line(f"finding: {finding}"), markup=False)


def watch(job: SageMakerJob[_Result], progress: Steps) -> _Result | None:
    """Show a job until it has ended and return its result; None if it is still running.

    An interruption asks whether to stop the job as well. Without a terminal, or if the job cannot be stopped, it
    continues.
    """
    progress.begin(f"{job.kind.noun} {job.name}")
    try:
        job.watch(on_line=_print_line, on_phase=_print_phase)
    except KeyboardInterrupt:
        progress.end()
        if not job.kind.stop or not sys.stdin.isatty() or not _confirm(f"Stop the {job.kind.noun} {job.name} too?"):
            note(f"the {job.kind.noun} {job.name} is still running")
            return None
        job.stop()
        progress.begin(f"stop {job.kind.noun} {job.name}")
        job.watch(on_line=_print_line, on_phase=_print_phase)
    return job.result()


def _print_line(text: str) -> None:
    err.print(f"[dim]{escape(text)}[/dim]")


def _print_phase(phase: str, message: str) -> None:
    err.print(f"  {escape(phase)}{': ' if message else ''}{escape(message)}")


def _confirm(question: str) -> bool:
    """Return the answer; an interruption of the question counts as no."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        err.print()
        return False


def choose_exit_code(document: Mapping[str, Any], *, has_exceeded_time: bool = False) -> int:
    """Return the exit code of a job whose report is ``document``: 0 completed, 1 failed or out of time, 130 stopped."""
    if document["state"] == "Completed":
        return 0
    return 1 if document["state"] == "Failed" or has_exceeded_time else INTERRUPTED


def format_state(state: str) -> str:
    """Return the state of a job with its colour, as markup."""
    colour = _COLOURS.get(state)
    return f"[{colour}]{state}[/{colour}]" if colour else state


def print_error_line(sentence: str) -> None:
    """Print why a job failed, among its other output on standard error."""
    err.print(f"[red]error:[/red] {escape_markup(sentence)}")
