"""The requests of one execution: arrays out of Triton, results back into it, and batches of several requests between.

Triton's scheduler passes a backend one request, or with ``dynamic_batching`` several whose batch sizes add up to at
most ``max_batch_size``; one response must go back for each, in the same order. An error belongs to one request: when a
batch fails, its requests run alone, so that the good ones are answered.

A request that was cancelled while it waited is not run, where running it takes long. Tritonserver is asked for each
request alone, through threads of both processes (python_backend src/pb_cancel.cc), which costs about 0.1 ms.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np

from tritonforge.serving.backends import dlpack
from tritonforge.serving.backends.configuration import Configuration
from tritonforge.serving.backends.sequences import SequencePosition, SequenceStates

__all__ = ["Arrays", "BackendRequest", "BatchRunner", "RequestError", "Result", "RunModel", "RunTime", "run_batch",
           "run_in_groups"]  # fmt: skip

#: Seconds of the model for one request from which on it is asked whether a request was cancelled.
_LONG_RUN: Final = 0.005


Arrays: TypeAlias = "Mapping[str, np.ndarray[Any, Any]]"

#: Runs a model: arrays by input name and the names of outputs give arrays by output name.
RunModel: TypeAlias = Callable[[Arrays, Sequence[str]], Arrays]


class RequestError(Exception):
    """Why one request has no answer; ``caller`` is True if the request is invalid, not the server."""

    def __init__(self, message: str, *, caller: bool = True) -> None:
        super().__init__(message)
        self.caller = caller


#: Arrays by output name, or an error.
Result: TypeAlias = "Arrays | RequestError"


@dataclass(frozen=True, slots=True)
class BackendRequest:
    """One request: arrays by input name, names of outputs, and the batch size (1 where the model does not batch).

    ``outputs`` are what the model must compute: the ``requested`` outputs, and those that are implicit states.
    """

    inputs: Arrays
    outputs: tuple[str, ...]
    size: int
    requested: tuple[str, ...] | None = None


@dataclass(slots=True)
class RunTime:
    """The seconds that a model took for each request of its last batch; infinite before the first one."""

    seconds: float = math.inf


class BatchRunner:
    """Runs Triton's requests on a model that computes whole batches, with its sequences' states.

    ``keeps_inputs`` is as for `run_batch`.
    """

    def __init__(self, configuration: Configuration, run: RunModel, *, keeps_inputs: bool = True) -> None:
        self._configuration = configuration
        self._run = run
        self._keeps_inputs = keeps_inputs
        self._states = SequenceStates(configuration) if configuration.sequence else None
        self._run_time = RunTime()

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run the requests that Triton passes as one batch."""
        return run_batch(
            requests,
            self._configuration,
            self._compute,
            run_time=self._run_time,
            states=self._states,
            keeps_inputs=self._keeps_inputs,
        )

    def _compute(self, batch: Sequence[BackendRequest]) -> list[Result]:
        config = self._configuration
        return run_in_groups(batch, self._run, batched=config.batched, retry=not config.sequence)


def run_batch(
    requests: Sequence[Any],
    configuration: Configuration,
    compute: Callable[[Sequence[BackendRequest]], Sequence[Result]],
    *,
    run_time: RunTime,
    states: SequenceStates | None = None,
    keeps_inputs: bool = True,
) -> list[Any]:
    """Run Triton's requests, and return one InferenceResponse for each.

    ``run_time`` is that of the batch before, and then of this one. Without ``keeps_inputs`` the arrays are Triton's own
    memory, for a model that neither writes to them nor uses them after its run. With ``states`` the requests are of
    sequences: those that fill idle batch slots run with zeros, since a model may keep its state by the place in the
    batch.
    """
    import triton_python_backend_utils as pb_utils

    responses: list[Any] = [None] * len(requests)
    batch: list[BackendRequest] = []
    places: list[int] = []
    positions: list[SequencePosition | None] = []
    checks_cancellation = states is None and run_time.seconds >= _LONG_RUN
    for place, request in enumerate(requests):
        sequence = None if states is None else SequencePosition.of(request)
        # A request of a sequence always runs: its place in the batch counts for the model.
        if checks_cancellation and request.is_cancelled():
            error = pb_utils.TritonError("the request was cancelled", pb_utils.TritonError.CANCELLED)
            responses[place] = pb_utils.InferenceResponse(output_tensors=[], error=error)
            continue
        read = _read_request(request, configuration, dlpack.read_tensor if keeps_inputs else dlpack.view_tensor)
        if states is not None and sequence is not None:
            read = _add_states(read, configuration, states, sequence)
        batch.append(read)
        places.append(place)
        positions.append(sequence)
    began = time.perf_counter()
    results = compute(batch)
    if batch:
        run_time.seconds = (time.perf_counter() - began) / len(batch)
    for place, read, sequence, result in zip(places, batch, positions, results, strict=True):
        if states is not None and sequence is not None and not isinstance(result, RequestError):
            states.update(sequence, result)
        responses[place] = _build_response(read, result)
    return responses


def _add_states(
    request: BackendRequest, configuration: Configuration, states: SequenceStates, sequence: SequencePosition
) -> BackendRequest:
    """Return the request with its state inputs and state outputs."""
    inputs = dict(request.inputs)
    if sequence.is_padding:  # Triton sends uninitialised memory
        controls = {tensor.name for tensor in configuration.controls}
        inputs = {name: array if name in controls else _make_zeros(array) for name, array in inputs.items()}
    inputs.update(states.get_inputs(sequence))
    outputs = tuple(dict.fromkeys((*request.outputs, *states.output_names)))
    if sequence.is_padding and not outputs:
        outputs = tuple(tensor.name for tensor in configuration.outputs)
    return BackendRequest(inputs, outputs, request.size, requested=request.outputs)


def _make_zeros(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.full(array.shape, b"", dtype=object) if array.dtype == object else np.zeros_like(array)


def run_in_groups(batch: Sequence[BackendRequest], run: RunModel, *, batched: bool, retry: bool = True) -> list[Result]:
    """Run requests of the same inputs and shapes as one batch, and split the outputs.

    A batch that fails runs again, each request alone, unless ``retry`` is False: a model that keeps state would take a
    step twice.
    """
    if not batched:
        return [_run_alone(request, run) for request in batch]
    groups: dict[Any, list[int]] = {}
    for place, request in enumerate(batch):
        key = tuple((name, array.shape[1:], array.dtype.str) for name, array in sorted(request.inputs.items()))
        groups.setdefault(key, []).append(place)
    results: list[Result | None] = [None] * len(batch)
    for places in groups.values():
        for place, result in zip(places, _run_together([batch[place] for place in places], run, retry), strict=True):
            results[place] = result
    return [result for result in results if result is not None]


def _run_together(batch: Sequence[BackendRequest], run: RunModel, retry: bool) -> list[Result]:
    if len(batch) == 1:
        return [_run_alone(batch[0], run)]
    inputs = {name: np.concatenate([request.inputs[name] for request in batch]) for name in batch[0].inputs}
    names = tuple(dict.fromkeys(name for request in batch for name in request.outputs))
    try:
        outputs = run(inputs, names)
        total = sum(request.size for request in batch)
        for name, array in outputs.items():
            _check_batch(name, array, total)
    except RequestError as error:
        return [_run_alone(request, run) if retry else error for request in batch]
    results: list[Result] = []
    start = 0
    for request in batch:
        stop = start + request.size
        results.append({name: outputs[name][start:stop] for name in request.outputs})
        start = stop
    return results


def _run_alone(request: BackendRequest, run: RunModel) -> Result:
    try:
        return run(request.inputs, request.outputs)
    except RequestError as error:
        return error


def _check_batch(name: str, array: np.ndarray[Any, Any], size: int) -> None:
    if array.ndim == 0 or array.shape[0] != size:
        raise RequestError(
            f"output '{name}' has shape {list(array.shape)} for a batch of {size}: the model does not batch",
            caller=False,
        )


def _read_request(
    request: Any, configuration: Configuration, read: Callable[[Any], np.ndarray[Any, Any]]
) -> BackendRequest:
    inputs = {}
    for tensor in request.inputs():
        name = tensor.name()
        inputs[name] = tensor.as_numpy() if configuration.is_text(name) else read(tensor)
    size = next(iter(inputs.values())).shape[0] if configuration.batched and inputs else 1
    # In the order of Triton's C++ backends; the stub gives a set, whose order changes from process to process
    # (infer_request.h `original_requested_outputs_` is a std::set).
    return BackendRequest(inputs, tuple(sorted(request.requested_output_names())), size)


def _build_response(request: BackendRequest, result: Result) -> Any:
    import triton_python_backend_utils as pb_utils

    if isinstance(result, RequestError):
        code = pb_utils.TritonError.INVALID_ARG if result.caller else pb_utils.TritonError.INTERNAL
        return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(str(result), code))
    tensors = []
    for name in request.outputs if request.requested is None else request.requested:
        array = np.asarray(result[name], order="C")
        # DLPack has no strings.
        is_text = array.dtype == object
        tensors.append(pb_utils.Tensor(name, array) if is_text else dlpack.make_tensor(name, array))
    return pb_utils.InferenceResponse(output_tensors=tensors)
