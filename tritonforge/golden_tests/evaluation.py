"""The verdict on a case: how the answers of its steps differ from the recording, the first one first. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt

from tritonforge.datatypes import from_numpy
from tritonforge.errors import CaseError
from tritonforge.golden_tests.cases import Case, Expectation, Source
from tritonforge.golden_tests.comparison import compare_labels, compare_tensor, compare_top
from tritonforge.golden_tests.data_flow import DataFlow, Step
from tritonforge.golden_tests.recordings import InputRecord, Recording, StepRecord
from tritonforge.golden_tests.tensor_record import TensorRecord, hash_tensor, list_best, record_tensor
from tritonforge.inference.transports import TensorMetadata

__all__ = ["Answer", "CaseAnswer", "Difference", "build_recording", "check_case", "compare_case"]

Array = npt.NDArray[Any]

#: Reads the value of an expectation in a tensor's datatype and shape.
ReadTensor = Callable[[Source, TensorMetadata], Array]

_NOTHING = Expectation()


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What a model answered: outputs, and labels of classes by output; or its ``error``."""

    outputs: Mapping[str, Array] = field(default_factory=dict)
    labels: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    error: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class CaseAnswer:
    """The answers to a case.

    ``inputs`` are the tensors that were sent. ``steps`` has the answers of the steps that ran, in the order of the data
    flow; ``answer`` is that of the model itself.
    """

    inputs: Mapping[str, Array]
    steps: tuple[tuple[Step, Answer], ...]
    answer: Answer


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """One way in which an answer differs from what is expected.

    Attributes:
        step: the step, "" for the answer of the model itself.
        output: the output, "" for the step as a whole.
        sentence: what differs, and by how much.
        before: the recorded tensor.
        now: the tensor of this answer.
    """

    step: str
    output: str
    sentence: str
    before: TensorRecord | None = None
    now: Array | None = None


def build_recording(flow: DataFlow, answer: CaseAnswer) -> Recording:
    """Return the recording of an answer without errors."""
    return Recording(
        model=flow.model,
        inputs={name: _record_input(array) for name, array in answer.inputs.items()},
        steps=tuple(
            StepRecord(step.name, step.model, dict(step.sources), _record_outputs(result))
            for step, result in answer.steps
        ),
        sources=dict(flow.sources),
        outputs=_record_outputs(answer.answer),
    )


def check_case(case: Case, flow: DataFlow) -> None:
    """Refuse a case that names a step that the model does not have. Raises CaseError."""
    names = [step.name for step in flow.steps]
    for name in case.steps:
        if name not in names:
            expected = ", ".join(names) or f"none: {flow.reason or f'{flow.model} is not an ensemble'}"
            raise CaseError(f"{case.name}: steps.{name}: {flow.model} has no such step (expected {expected})")


def compare_case(
    case: Case, recording: Recording | None, flow: DataFlow, answer: CaseAnswer, read_tensor: ReadTensor
) -> tuple[list[Difference], list[str]]:
    """Return the differences, in the order of the data flow, and notes on what does not count as one.

    A changed data flow is a difference only if an answer differs as well.

    Raises:
        CaseError, EncodeError: an expectation of the case does not fit the output.
    """
    if case.error is not None:
        return _compare_error(case.error, answer.answer), []
    if recording is not None and (wrong := list(_compare_inputs(recording, answer))):
        return wrong, []
    recorded = {step.name: step for step in recording.steps} if recording is not None else {}
    differences: list[Difference] = []
    changes: list[Difference] = []
    for step, result in answer.steps:
        if recording is not None and recording.steps:
            changes += (moved := list(_compare_flow(recorded.get(step.name), step)))
            differences += moved
        before = recorded[step.name].outputs if step.name in recorded else None
        differences += _compare_outputs(case, flow, step.name, before, result, read_tensor)
    if recording is not None and answer.steps:
        names = {step.name for step in flow.steps}
        gone = [Difference(name, "", "it is not a step any more") for name in recorded if name not in names]
        changes += gone
        differences += gone
    differences += _compare_outputs(
        case, flow, "", None if recording is None else recording.outputs, answer.answer, read_tensor
    )
    if len(differences) == len(changes):
        return [], [f"step {change.step}: {change.sentence}; the answers are the same" for change in changes]
    return differences, []


def _compare_error(expected: str, answer: Answer) -> list[Difference]:
    if not answer.error:
        return [Difference("", "", f"expected an error that contains {expected!r}, and the model answered")]
    if expected not in answer.error:
        return [Difference("", "", f"expected an error that contains {expected!r}, got: {answer.error}")]
    return []


def _compare_inputs(recording: Recording, answer: CaseAnswer) -> Iterator[Difference]:
    """Yield the inputs that are not the recorded ones; the answers cannot be compared then."""
    advice = "the recording is of other inputs; record it again with --update"
    for name in sorted(recording.inputs.keys() | answer.inputs.keys()):
        array, before = answer.inputs.get(name), recording.inputs.get(name)
        if array is None or before is None:
            yield Difference("", "", f"input {name} is {'new' if before is None else 'missing'}; {advice}")
        elif (now := _record_input(array)) != before:
            change = "" if now.shape == before.shape else f" ({list(before.shape)} before, {list(now.shape)} now)"
            yield Difference("", "", f"input {name} changed{change}; {advice}")


def _compare_flow(before: StepRecord | None, step: Step) -> Iterator[Difference]:
    if before is None:
        yield Difference(step.name, "", "the recording has no such step")
        return
    if before.model != step.model:
        yield Difference(step.name, "", f"it asks model {step.model}, before it asked {before.model}")
    for name in sorted(before.inputs.keys() | step.sources.keys()):
        old, new = before.inputs.get(name, "nothing"), step.sources.get(name, "nothing")
        if old != new:
            yield Difference(step.name, "", f"input {name} takes {new}, before it took {old}")


def _compare_outputs(
    case: Case,
    flow: DataFlow,
    step: str,
    before: Mapping[str, TensorRecord] | None,
    answer: Answer,
    read_tensor: ReadTensor,
) -> Iterator[Difference]:
    """Yield how the outputs of a step, or of the model itself, differ from the recording and the expectations."""
    if answer.error:
        yield Difference(step, "", f"it answered with an error: {answer.error}")
        return
    own = case.steps.get(step, {}) if step else case.outputs
    for name in own:
        if name not in answer.outputs:
            yield Difference(step, name, f"it is not in the answer (it has {', '.join(answer.outputs) or 'none'})")
    for name in sorted((before or {}).keys() - answer.outputs.keys() - own.keys()):
        yield Difference(step, name, "it is not in the answer any more", (before or {})[name])
    for name, array in sorted(answer.outputs.items()):
        expected = _find_expectation(case, flow, step, name)
        record = None if before is None else before.get(name)
        labels = answer.labels.get(name, {})
        sentences: list[str] = []
        if record is not None and not expected.is_ignored:
            if expected.top is not None:
                sentences.append(compare_top(record, array, expected.top))
            else:
                sentences.append(compare_tensor(record, array, expected.tolerance))
            sentences.append(compare_labels(record.labels, labels))
        elif before is not None and record is None:
            sentences.append("the recording has no such output")
        if name in own:
            sentences += _compare_expectation(own[name], name, array, labels, read_tensor)
        yield from (Difference(step, name, sentence, record, array) for sentence in sentences if sentence)


def _find_expectation(case: Case, flow: DataFlow, step: str, output: str) -> Expectation:
    """Return the expectation of an output; one that is also an output of the model shares its expectation."""
    if step:
        names = [name for name, source in flow.sources.items() if source == f"{step}.{output}"]
        inherited = next((case.outputs[name] for name in names if name in case.outputs), _NOTHING)
        return case.steps.get(step, {}).get(output, inherited)
    source, _, source_output = flow.sources.get(output, "").rpartition(".")
    inherited = case.steps.get(source, {}).get(source_output, _NOTHING)
    return case.outputs.get(output, inherited)


def _compare_expectation(
    expected: Expectation, name: str, array: Array, labels: Mapping[int, str], read_tensor: ReadTensor
) -> Iterator[str]:
    """Yield how a tensor differs from the value and the classes that the case states."""
    if expected.value is not None:
        row = from_numpy(array.dtype)
        if row is None:
            raise CaseError(f"output {name!r}: it has no KServe datatype ({array.dtype})")
        value = read_tensor(expected.value, TensorMetadata(name, row.wire, array.shape))
        whole = TensorRecord(row.wire, value.shape, hash_tensor(value), values=value)
        yield compare_tensor(whole, array, expected.tolerance, word="expected")
    if not expected.classes:
        return
    best = list_best(array, max(map(len, expected.classes)))
    if not best:
        yield "classes are of an output of scores (floats, a row for each entry of the batch)"
        return
    if len(best) != len(expected.classes):
        yield f"it has {len(best)} rows, and classes has {len(expected.classes)}"
        return
    for number, (row_best, classes) in enumerate(zip(best, expected.classes, strict=True)):
        now = [
            labels.get(index, f"class {index} without a label") if isinstance(entry, str) else index
            for index, entry in zip(row_best, classes, strict=False)
        ]
        if now != list(classes):
            yield f"row {number}: the best classes are {now} (expected {list(classes)})"


def _record_input(array: Array) -> InputRecord:
    row = from_numpy(array.dtype)
    return InputRecord(row.wire if row is not None else str(array.dtype), array.shape, hash_tensor(array))


def _record_outputs(answer: Answer) -> dict[str, TensorRecord]:
    """Return the records of the outputs by name, sorted: Triton's order of an ensemble's outputs varies."""
    return {
        name: record_tensor(array, labels=answer.labels.get(name)) for name, array in sorted(answer.outputs.items())
    }
