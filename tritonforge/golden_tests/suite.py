"""The cases of a directory: run them, record their answers, and state what differs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from tritonforge.errors import CaseError, ConnectError, DecodeError, EncodeError
from tritonforge.golden_tests.case_files import CaseDirectory
from tritonforge.golden_tests.cases import Case
from tritonforge.golden_tests.data_flow import DataFlow
from tritonforge.golden_tests.evaluation import CaseAnswer, Difference, build_recording, check_case, compare_case
from tritonforge.golden_tests.recordings import Recording
from tritonforge.golden_tests.runner import EndpointRunner, RepositoryRunner

__all__ = ["CaseResult", "Mode", "Status", "describe_step", "list_unreadable_cases", "run_case", "select_cases"]

#: ``replay`` compares; ``record`` records the cases without a recording too; ``update`` records all that differ.
Mode: TypeAlias = Literal["replay", "record", "update"]

#: ``invalid``: the case or its recording is wrong, or does not fit the model.
Status: TypeAlias = Literal["passed", "failed", "invalid", "recorded", "updated"]


@dataclass(frozen=True, slots=True)
class CaseResult:
    """The result of a case.

    Attributes:
        name: its name.
        status: how it ended.
        seconds: how long it took.
        model: the model that was asked, "" if none was.
        differences: of a failed or updated case, in the order of the data flow; the first one names the step.
        notes: what a reader should be aware of and what is not a failure.
        message: why a case is invalid, or why it failed without a difference.
    """

    name: str
    status: Status
    seconds: float = 0.0
    model: str = ""
    differences: tuple[Difference, ...] = ()
    notes: tuple[str, ...] = ()
    message: str = ""
    steps: tuple[str, ...] = field(default=())

    @property
    def is_success(self) -> bool:
        """Whether the case passed or was recorded."""
        return self.status in ("passed", "recorded", "updated")

    @property
    def headline(self) -> str:
        """Why the case is not passed, as one sentence that names the first step that differs; "" if it passed."""
        if self.message or not self.differences:
            return self.message
        first = self.differences[0]
        if first.step:
            return f"step {first.step} is the first one that differs"
        if self.steps:
            return f"{self.model} itself differs, and none of its steps"
        return f"{self.model} differs"


def describe_step(result: CaseResult, difference: Difference) -> str:
    """Return where a difference is: ``step.output``, with the model's name for its own answer."""
    return ".".join(filter(None, (difference.step or result.model, difference.output)))


def run_case(
    directory: CaseDirectory,
    name: str,
    runner: RepositoryRunner | EndpointRunner,
    *,
    mode: Mode = "replay",
    advice: str = "record it with --record",
) -> CaseResult:
    """Run a case and return its result; the recording is written as the mode states.

    ``advice`` ends the message on a case without a recording.
    """
    began = time.perf_counter()
    try:
        result = _run_case(directory, name, runner, mode=mode, advice=advice)
    except (CaseError, EncodeError) as error:
        prefix = "" if isinstance(error, CaseError) else f"{directory.folder / name}.json: "
        result = CaseResult(name, "invalid", message=f"{prefix}{error}")
    except (ConnectError, DecodeError) as error:
        result = CaseResult(name, "failed", message=str(error))
    return replace(result, seconds=time.perf_counter() - began)


def list_unreadable_cases(directory: CaseDirectory, names: Sequence[str]) -> dict[str, CaseResult]:
    """Return the results of the cases whose files are invalid, which needs no server, by name."""
    results = {}
    for name in names:
        try:
            directory.read_case(name)
            directory.read_recording(name)
        except CaseError as error:  # noqa: PERF203 - the other cases are run all the same
            results[name] = CaseResult(name, "invalid", message=str(error))
    return results


def _run_case(
    directory: CaseDirectory, name: str, runner: RepositoryRunner | EndpointRunner, *, mode: Mode, advice: str
) -> CaseResult:
    case = directory.read_case(name)
    recording = directory.read_recording(name)
    if isinstance(runner, EndpointRunner):
        if recording is None and not case.has_own_expectations:
            return CaseResult(name, "failed", message=f"it has no recording; {advice}")
        flow = DataFlow(case.model or ("the endpoint" if recording is None else recording.model))
        answer = runner.ask(case, recording, directory.read_tensor)
        return _judge_answer(directory, case, recording, flow, answer)
    flow = runner.plan(case)
    check_case(case, flow)
    is_recorded = case.error is None and (mode == "update" or (mode == "record" and recording is None))
    if not is_recorded and recording is None and not case.has_own_expectations:
        return CaseResult(name, "failed", model=flow.model, message=f"it has no recording; {advice}")
    answer = runner.ask(case, flow, directory.read_tensor)
    result = _judge_answer(directory, case, recording, flow, answer)
    is_same = recording is not None and result.status == "passed" and set(result.notes) <= {flow.reason}
    if not is_recorded or is_same:  # other notes are about a data flow that changed
        return result
    return _record(directory, case, flow, answer, result, runner)


def _judge_answer(
    directory: CaseDirectory, case: Case, recording: Recording | None, flow: DataFlow, answer: CaseAnswer
) -> CaseResult:
    differences, notes = compare_case(case, recording, flow, answer, directory.read_tensor)
    if recording is None and case.error is None:
        notes.append("it has no recording: only what the case states is compared")
    return CaseResult(
        case.name,
        "failed" if differences else "passed",
        model=flow.model,
        differences=tuple(differences),
        notes=tuple(filter(None, (*notes, flow.reason))),
        steps=tuple(step.name for step, _ in answer.steps),
    )


def _record(
    directory: CaseDirectory,
    case: Case,
    flow: DataFlow,
    answer: CaseAnswer,
    result: CaseResult,
    runner: RepositoryRunner,
) -> CaseResult:
    """Record an answer, unless it breaks what the case states, or a second one differs from it."""
    failures = [(step.name, entry.error) for step, entry in answer.steps if entry.error]
    if answer.answer.error or failures:
        where, error = failures[0] if failures else (flow.model, answer.answer.error)
        message = f'not recorded: {where} answered with an error: {error}. If it is expected, write "error": "..."'
        return replace(result, status="failed", message=message)
    broken, _ = compare_case(case, None, flow, answer, directory.read_tensor)
    if broken:
        return replace(
            result, status="failed", differences=tuple(broken), message="not recorded: it breaks what the case states"
        )
    recording = build_recording(flow, answer)
    unstable, _ = compare_case(
        case, recording, flow, runner.ask(case, flow, directory.read_tensor), directory.read_tensor
    )
    if unstable:
        message = (
            "not recorded: two answers to the same inputs differ; give the output a tolerance, top or ignore in the "
            "case"
        )
        return replace(result, status="failed", differences=tuple(unstable), message=message)
    is_new = directory.read_recording(case.name) is None
    directory.write_recording(case.name, recording)
    return replace(result, status="recorded" if is_new else "updated", notes=())


def select_cases(names: Sequence[str], pattern: str | None) -> list[str]:
    """Return the names that contain a text, in any case; all without one."""
    return [name for name in names if pattern is None or pattern.casefold() in name.casefold()]
