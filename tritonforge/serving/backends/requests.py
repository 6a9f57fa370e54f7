"""The requests of one execution: arrays out of Triton, answers back into it, and batches of several requests between.

Triton's scheduler hands a backend one request, or with ``dynamic_batching`` several whose batch sizes add up to at most
``max_batch_size``; one response must go back for each, in the same order. An error belongs to one request: when a batch
fails, its requests run alone, so that the good ones are answered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from tritonforge.serving.backends import bfloat16
from tritonforge.serving.backends.configuration import Configuration
from tritonforge.serving.backends.sequences import Sequence as SequencePlace
from tritonforge.serving.backends.sequences import SequenceStates

__all__ = ["Answer", "Arrays", "Question", "RequestError", "Run", "in_batches", "respond"]

Arrays: TypeAlias = "Mapping[str, np.ndarray[Any, Any]]"

#: Runs a model: arrays by input name and the names of the wanted outputs give arrays by output name.
Run: TypeAlias = Callable[[Arrays, Sequence[str]], Arrays]


class RequestError(Exception):
    """Why one request has no answer; ``caller`` says that what was sent is wrong, and not the server."""

    def __init__(self, message: str, *, caller: bool = True) -> None:
        super().__init__(message)
        self.caller = caller


#: Arrays by output name, or why there are none.
Answer: TypeAlias = "Arrays | RequestError"


@dataclass(frozen=True, slots=True)
class Question:
    """One request: arrays by input name, the wanted outputs, and the batch size (1 where the model does not batch).

    ``outputs`` are what the model must compute: the ``requested`` outputs, and those that are implicit states.
    """

    inputs: Arrays
    outputs: tuple[str, ...]
    size: int
    requested: tuple[str, ...] | None = None


def respond(
    requests: Sequence[Any],
    configuration: Configuration,
    answer: Callable[[Sequence[Question]], Sequence[Answer]],
    *,
    states: SequenceStates | None = None,
) -> list[Any]:
    """Answer Triton's requests: one InferenceResponse each.

    A request that was cancelled while it waited is not run. With ``states`` the requests are of sequences: those that
    fill idle batch slots run with zeros, since a model may keep what it knows by the place in the batch.
    """
    import triton_python_backend_utils as pb_utils

    responses: list[Any] = [None] * len(requests)
    questions: list[Question] = []
    places: list[int] = []
    in_sequence: list[SequencePlace | None] = []
    for place, request in enumerate(requests):
        sequence = None if states is None else SequencePlace.of(request)
        # A request of a sequence always runs: its place in the batch counts for the model.
        if sequence is None and request.is_cancelled():
            error = pb_utils.TritonError("the request was cancelled", pb_utils.TritonError.CANCELLED)
            responses[place] = pb_utils.InferenceResponse(output_tensors=[], error=error)
            continue
        question = _question(request, configuration)
        if states is not None and sequence is not None:
            question = _with_states(question, configuration, states, sequence)
        questions.append(question)
        places.append(place)
        in_sequence.append(sequence)
    for place, question, sequence, answered in zip(places, questions, in_sequence, answer(questions), strict=True):
        if states is not None and sequence is not None and not isinstance(answered, RequestError):
            states.update(sequence, answered)
        responses[place] = _response(question, answered)
    return responses


def _with_states(
    question: Question, configuration: Configuration, states: SequenceStates, sequence: SequencePlace
) -> Question:
    """The question with its state inputs, asked for the state outputs as well."""
    inputs = dict(question.inputs)
    if sequence.is_padding:  # Triton sends uninitialised memory
        controls = {tensor.name for tensor in configuration.controls}
        inputs = {name: array if name in controls else _zeros(array) for name, array in inputs.items()}
    inputs.update(states.inputs(sequence))
    outputs = tuple(dict.fromkeys((*question.outputs, *states.output_names)))
    if sequence.is_padding and not outputs:
        outputs = tuple(tensor.name for tensor in configuration.outputs)
    return Question(inputs, outputs, question.size, requested=question.outputs)


def _zeros(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.full(array.shape, b"", dtype=object) if array.dtype == object else np.zeros_like(array)


def in_batches(questions: Sequence[Question], run: Run, *, batched: bool, retry: bool = True) -> list[Answer]:
    """Run questions of the same inputs and shapes as one batch, and split what comes back.

    A batch that fails runs again, each question alone, unless ``retry`` is False: a model that keeps state would take
    a step twice.
    """
    if not batched:
        return [_alone(question, run) for question in questions]
    groups: dict[Any, list[int]] = {}
    for place, question in enumerate(questions):
        key = tuple((name, array.shape[1:], array.dtype.str) for name, array in sorted(question.inputs.items()))
        groups.setdefault(key, []).append(place)
    answers: list[Answer | None] = [None] * len(questions)
    for places in groups.values():
        for place, answered in zip(places, _together([questions[each] for each in places], run, retry), strict=True):
            answers[place] = answered
    return [each for each in answers if each is not None]


def _together(questions: Sequence[Question], run: Run, retry: bool) -> list[Answer]:
    if len(questions) == 1:
        return [_alone(questions[0], run)]
    inputs = {name: np.concatenate([each.inputs[name] for each in questions]) for name in questions[0].inputs}
    wanted = tuple(dict.fromkeys(name for each in questions for name in each.outputs))
    try:
        outputs = run(inputs, wanted)
        total = sum(each.size for each in questions)
        for name, array in outputs.items():
            _check_batch(name, array, total)
    except RequestError as error:
        return [_alone(question, run) if retry else error for question in questions]
    answers: list[Answer] = []
    start = 0
    for question in questions:
        stop = start + question.size
        answers.append({name: outputs[name][start:stop] for name in question.outputs})
        start = stop
    return answers


def _alone(question: Question, run: Run) -> Answer:
    try:
        return run(question.inputs, question.outputs)
    except RequestError as error:
        return error


def _check_batch(name: str, array: np.ndarray[Any, Any], size: int) -> None:
    if array.ndim == 0 or array.shape[0] != size:
        raise RequestError(
            f"output '{name}' has shape {list(array.shape)} for a batch of {size}: the model does not batch",
            caller=False,
        )


def _question(request: Any, configuration: Configuration) -> Question:
    inputs = {}
    for tensor in request.inputs():
        name = tensor.name()
        inputs[name] = bfloat16.array(tensor) if configuration.is_bfloat16(name) else tensor.as_numpy()
    size = next(iter(inputs.values())).shape[0] if configuration.batched and inputs else 1
    # In the order of Triton's C++ backends; the stub gives a set, whose order changes from process to process
    # (infer_request.h `original_requested_outputs_` is a std::set).
    return Question(inputs, tuple(sorted(request.requested_output_names())), size)


def _response(question: Question, answered: Answer) -> Any:
    import triton_python_backend_utils as pb_utils

    if isinstance(answered, RequestError):
        code = pb_utils.TritonError.INVALID_ARG if answered.caller else pb_utils.TritonError.INTERNAL
        return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(answered), code))
    tensors = []
    for name in question.outputs if question.requested is None else question.requested:
        array = answered[name]
        if array.dtype == bfloat16.DTYPE:
            tensors.append(bfloat16.tensor(name, array))
        else:
            tensors.append(pb_utils.Tensor(name, np.ascontiguousarray(array)))
    return pb_utils.InferenceResponse(output_tensors=tensors)
