"""Traces of single requests: the executions that a request caused, their phases, and how they are put together. No I/O.

A request that reaches an ensemble has one execution for the ensemble and one for each of its steps. Times are in
nanoseconds of the server's steady clock, whose zero is the start of the machine.
Source of names and phases: server/docs/user_guide/trace.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, TypeAlias

from tritonforge.profiling.trace_records import ExecutionRecord, Record, TimestampRecord

__all__ = ["PHASES", "Execution", "Phase", "PhaseName", "RequestTrace", "assemble_traces"]

PhaseName: TypeAlias = Literal["receive", "queue", "input", "infer", "output", "send"]

#: Phase -> the pairs of timestamps that begin and end it.
_BORDERS: Final[Mapping[PhaseName, Sequence[tuple[str, str]]]] = {
    "receive": (("HTTP_RECV_START", "HTTP_RECV_END"),),
    "queue": (("QUEUE_START", "COMPUTE_START"),),
    "input": (("COMPUTE_START", "COMPUTE_INPUT_END"),),
    "infer": (("COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START"),),
    "output": (("COMPUTE_OUTPUT_START", "COMPUTE_END"),),
    "send": (("HTTP_SEND_START", "HTTP_SEND_END"), ("GRPC_SEND_START", "GRPC_SEND_END")),
}

#: The phases in the order of time.
PHASES: Final[tuple[PhaseName, ...]] = tuple(_BORDERS)

#: The wait of the gRPC front end for a request begins before the client sends it.
_BEFORE_REQUEST: Final = "GRPC_WAITREAD_START"

#: Executions that are kept until the end of their request is certain.
_WINDOW: Final = 4096

#: Timestamps of an execution that are kept, and executions of a request; Triton writes 14 timestamps at most.
_MOST_TIMESTAMPS: Final = 64
_DEEPEST: Final = 64


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of an execution; ``begin`` and ``end`` are in nanoseconds."""

    name: PhaseName
    begin: int
    end: int


@dataclass(frozen=True)
class Execution:
    """The execution of one model for one request, with its timestamps in nanoseconds by name.

    ``depth`` is 0 for the model that the client named, 1 for steps of that ensemble, and so on.
    """

    id: int
    model: str
    version: int
    depth: int
    parent_id: int | None
    timestamps: Mapping[str, int]

    @cached_property
    def begin(self) -> int:
        """The first timestamp."""
        return min(time for name, time in self.timestamps.items() if name != _BEFORE_REQUEST)

    @cached_property
    def end(self) -> int:
        """The last timestamp."""
        return max(time for name, time in self.timestamps.items() if name != _BEFORE_REQUEST)

    @property
    def duration(self) -> int:
        """Nanoseconds from the first timestamp to the last one."""
        return self.end - self.begin

    @cached_property
    def phases(self) -> tuple[Phase, ...]:
        """The phases whose two timestamps are there and in order; an ensemble has neither queue nor compute phases."""
        times = self.timestamps
        return tuple(
            Phase(name, times[begin], times[end])
            for name, pairs in _BORDERS.items()
            for begin, end in pairs
            if begin in times and end in times and times[begin] <= times[end]
        )

    def sum_phase(self, name: PhaseName) -> int | None:
        """Return the nanoseconds of a phase; None if the execution does not have it."""
        return next((phase.end - phase.begin for phase in self.phases if phase.name == name), None)


@dataclass(frozen=True)
class RequestTrace:
    """One request: the execution of the model that the client named, and those that it caused, in order of time."""

    request_id: str
    executions: tuple[Execution, ...]

    @property
    def root(self) -> Execution:
        """The execution of the model that the client named."""
        return self.executions[0]

    @cached_property
    def begin(self) -> int:
        """The first timestamp, in nanoseconds."""
        return min(execution.begin for execution in self.executions)

    @cached_property
    def end(self) -> int:
        """The last timestamp, in nanoseconds."""
        return max(execution.end for execution in self.executions)

    @property
    def duration(self) -> int:
        """Nanoseconds from the first timestamp to the last one."""
        return self.end - self.begin


@dataclass(slots=True)
class _Draft:
    """An execution whose records are still read."""

    record: ExecutionRecord | None
    timestamps: dict[str, int]


def assemble_traces(records: Iterable[Record]) -> Iterator[RequestTrace]:
    """Yield requests as soon as all of their records are read.

    The records of one request follow each other. Where the file does not mark the border between two requests, a
    request is complete when many further executions were read. Executions whose model or parent is missing, and those
    without a timestamp, are left out.
    """
    drafts: dict[int, _Draft] = {}
    for record in records:
        if record is None:
            yield from _build_traces(drafts)
            drafts = {}
            continue
        draft = drafts.get(record.id)
        if isinstance(record, ExecutionRecord) and draft is not None and draft.record is not None:
            yield from _build_traces(drafts)  # ids begin again at 1 in a new server
            drafts, draft = {}, None
        if draft is None:
            if len(drafts) >= 2 * _WINDOW:
                drafts, complete = _split_drafts(drafts)
                yield from _build_traces(complete)
            draft = drafts[record.id] = _Draft(None, {})
        if isinstance(record, TimestampRecord):
            if len(draft.timestamps) < _MOST_TIMESTAMPS:
                draft.timestamps.setdefault(record.name, record.time)
        else:
            draft.record = record
    yield from _build_traces(drafts)


def _split_drafts(drafts: dict[int, _Draft]) -> tuple[dict[int, _Draft], dict[int, _Draft]]:
    """Return the newer half of the executions and the older one, with each request in one of them."""
    roots = {number: _find_root(drafts, number) for number in drafts}
    order = list(drafts)
    newer = {roots[number] for number in order[_WINDOW:]}
    kept = {number: draft for number, draft in drafts.items() if roots[number] in newer}
    if len(kept) > 3 * _WINDOW // 2:
        return {}, drafts  # requests that are larger than the window
    return kept, {number: draft for number, draft in drafts.items() if number not in kept}


def _find_root(drafts: Mapping[int, _Draft], number: int) -> int:
    """Return the id of the topmost execution known; ids that form a ring have the one they meet again."""
    for _ in range(_DEEPEST):
        draft = drafts.get(number)
        parent = draft.record.parent_id if draft is not None and draft.record is not None else None
        if parent is None:
            return number
        number = parent
    return number


def _build_traces(drafts: Mapping[int, _Draft]) -> Iterator[RequestTrace]:
    children: dict[int, list[int]] = {}
    roots: list[int] = []
    for number, draft in drafts.items():
        if draft.record is None or not any(name != _BEFORE_REQUEST for name in draft.timestamps):
            continue
        if draft.record.parent_id is None:
            roots.append(number)
        else:
            children.setdefault(draft.record.parent_id, []).append(number)
    for number in roots:
        record = drafts[number].record
        assert record is not None  # the loop above requires it
        yield RequestTrace(record.request_id, tuple(_list_executions(drafts, children, number)))


def _list_executions(
    drafts: Mapping[int, _Draft], children: Mapping[int, Sequence[int]], root: int
) -> Iterator[Execution]:
    """Yield an execution and those below it, steps in order of their first timestamp."""
    stack = [(root, 0)]
    while stack:
        number, depth = stack.pop()
        draft = drafts[number]
        assert draft.record is not None  # `_build_traces` requires it
        yield Execution(
            number, draft.record.model, draft.record.version, depth, draft.record.parent_id, draft.timestamps
        )
        if depth < _DEEPEST:
            steps = sorted(children.get(number, ()), key=lambda step: (min(drafts[step].timestamps.values()), step))
            stack += [(step, depth + 1) for step in reversed(steps)]
