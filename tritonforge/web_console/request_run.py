"""One request followed through its model: the whole request, then every step with its tensors and its time.

Steps are requested one by one through their models' own endpoints, as golden tests do. The tensors between steps are
then the ones that the ensemble moves, and no model of the repository is changed. The answer of the ensemble itself is
compared with that of the steps.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonforge.errors import ConnectError, DecodeError, ServerError
from tritonforge.golden_tests.data_flow import DataFlow, Step, list_steps, plan_data_flow
from tritonforge.golden_tests.flow_client import FlowClient
from tritonforge.inference.client import Client
from tritonforge.inference.wire import encode_request
from tritonforge.profiling.statistics import ModelStatistics, ServerStatistics, merge_versions, subtract_statistics
from tritonforge.profiling.step_times import Calls, find_reached_models
from tritonforge.web_console.detections import find_detections
from tritonforge.web_console.request_bytes import explain_request
from tritonforge.web_console.tensor_view import build_tensor_view

__all__ = ["RequestFollower"]

Array = npt.NDArray[Any]
Document = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Answer:
    """The outputs of a request or its error, its milliseconds, and what the server counted meanwhile, by model."""

    milliseconds: float
    outputs: Mapping[str, Array] = field(default_factory=dict)
    error: str = ""
    counted: Mapping[str, ModelStatistics] = field(default_factory=dict)


class RequestFollower:
    """Follows requests, one at a time, so that a step's time is not shared with another request of the page.

    Args:
        client: of the server's HTTP port.
        configs: the ModelConfig messages by model.
        labels: the names of classes, by model and output.
        read_statistics: reads the server's statistics.
        open_stream: returns a client of the gRPC port, for decoupled models; None where it is off.
        calls: the models that the code of each model requests.
    """

    def __init__(
        self,
        client: Client,
        configs: Mapping[str, Any],
        *,
        labels: Mapping[tuple[str, str], Sequence[str]],
        read_statistics: Callable[[], ServerStatistics],
        open_stream: Callable[[], Client | None],
        calls: Calls,
    ) -> None:
        self._flow_client = FlowClient(client, open_stream)
        self._configs = configs
        self._labels = labels
        self._read_statistics = read_statistics
        self._calls = calls
        self._lock = threading.Lock()

    def follow(self, model: str, inputs: Mapping[str, Array]) -> Document:
        """Return the document of a request: its ``answer``, ``steps``, ``tensors``, ``detections`` and ``request``.

        Raises:
            CaseError, EncodeError: the inputs do not fit the model.
            ConnectError: the server gave no answer.
        """
        flow = plan_data_flow(self._configs, model)
        payload = encode_request(inputs)
        with self._lock:
            whole = self._ask(model, inputs, flow)
            answers = list(self._ask_steps(flow, inputs, whole))
        tensors = self._view_inputs(flow, inputs)
        steps: list[Document] = []
        refusing = ""
        for step, answer in answers:
            steps.append(self._describe_step(step, answer))
            if answer is None:
                continue
            refusing = refusing or (step.name if answer.error else "")
            for name, array in answer.outputs.items():
                tensors[step.outputs.get(name, f"output:{name}")] = self._view(step.model, name, array)
        return {
            "model": model,
            "answer": {
                "milliseconds": whole.milliseconds,
                "server": _describe_counts(whole.counted.get(model)),
                "error": whole.error,
                "step": refusing,
                "agreement": _compare(flow, whole, answers),
                "note": flow.reason,
                "responses": _count_responses(whole) if flow.is_decoupled else None,
            },
            "steps": steps,
            "tensors": tensors,
            "detections": list(self._list_detections(flow, whole, answers)),
            "request": explain_request(payload),
        }

    def _ask_steps(self, flow: DataFlow, inputs: Mapping[str, Array], whole: _Answer) -> Any:
        """Yield the steps in order with their answers; None for a step after one that failed."""
        if not flow.steps:
            named = {name: f"input:{name}" for name in inputs}
            outputs = {name: f"output:{name}" for name in whole.outputs}
            yield Step(flow.model, flow.model, "", named, outputs), whole
            return
        tensors = dict(inputs)
        for step in flow.steps:
            if not set(step.inputs.values()) <= tensors.keys():
                yield step, None
                continue
            arguments = {name: tensors[tensor] for name, tensor in step.inputs.items()}
            answer = self._ask(step.model, arguments, flow, version=step.version, outputs=tuple(step.outputs))
            tensors |= {step.outputs[name]: array for name, array in answer.outputs.items()}
            yield step, answer

    def _ask(
        self,
        model: str,
        inputs: Mapping[str, Array],
        flow: DataFlow,
        *,
        version: str = "",
        outputs: tuple[str, ...] = (),
    ) -> _Answer:
        before = self._read_statistics()
        began = time.perf_counter()
        error, arrays = "", dict[str, Array]()
        try:
            arrays = self._flow_client.infer(model, inputs, flow, version=version, outputs=outputs)
        except ServerError as failure:
            error = failure.message
        milliseconds = (time.perf_counter() - began) * 1000
        try:
            counted = merge_versions(subtract_statistics(self._read_statistics(), before))
        except (ConnectError, DecodeError):  # a model that died is loaded again: its counts begin at 0
            counted = {}
        return _Answer(milliseconds, arrays, error, counted)

    def _view_inputs(self, flow: DataFlow, inputs: Mapping[str, Array]) -> dict[str, Document]:
        prefix = "" if flow.steps else "input:"
        has_batch = self._configs[flow.model].max_batch_size > 0
        return {f"{prefix}{name}": build_tensor_view(array, has_batch=has_batch) for name, array in inputs.items()}

    def _view(self, model: str, output: str, array: Array) -> Document:
        has_batch = self._configs[model].max_batch_size > 0
        return build_tensor_view(array, labels=self._labels.get((model, output), ()), has_batch=has_batch)

    def _describe_step(self, step: Step, answer: _Answer | None) -> Document:
        order = [output.name for output in self._configs[step.model].output]  # that of a protobuf map is arbitrary
        return {
            "name": step.name,
            "model": step.model,
            "inputs": dict(step.inputs),
            "outputs": {
                name: step.outputs[name] for name in dict.fromkeys([*order, *step.outputs]) if name in step.outputs
            },
            "status": "skipped" if answer is None else "failed" if answer.error else "answered",
            "milliseconds": None if answer is None else answer.milliseconds,
            "server": None if answer is None else _describe_counts(answer.counted.get(step.model)),
            "error": "" if answer is None else answer.error,
            "calls": 0.0 if answer is None else self._sum_calls(step.model, answer.counted),
            "called": [] if answer is None else list(self._list_called(step.model, answer.counted)),
        }

    def _sum_calls(self, model: str, counted: Mapping[str, ModelStatistics]) -> float:
        """Return the milliseconds of a step's computation in which its code waited for other models.

        0 if that is not known: another model requests them too, or the step requested several at once.
        """
        own = counted.get(model)
        callers = find_reached_models(self._configs, model, self._calls)
        direct = [name for name, names in callers.items() if model in names]
        if own is None or not own.requests or any(callers[name] != (model,) for name in direct):
            return 0.0
        waited = sum(counted[name].success.total + counted[name].failure.total for name in direct if name in counted)
        return waited / own.requests if waited <= own.compute_infer.total else 0.0

    def _list_called(self, model: str, counted: Mapping[str, ModelStatistics]) -> Iterator[Document]:
        """Yield the models that the code of a step requested, and the steps of an ensemble among them."""
        for called in find_reached_models(self._configs, model, self._calls):
            for step in list_steps(self._configs, called):
                if (counts := _describe_counts(counted.get(step.model))) is not None:
                    name = called if step.model == called else f"{called}/{step.name}"
                    yield {"name": name, "model": step.model, "server": counts}

    def _list_detections(self, flow: DataFlow, whole: _Answer, answers: Sequence[Any]) -> Any:
        for step, answer in answers:
            if answer is None:
                continue
            labels = next((names for (model, _), names in self._labels.items() if model == step.model), ())
            has_batch = self._configs[step.model].max_batch_size > 0
            if detections := find_detections(answer.outputs, labels=labels, has_batch=has_batch):
                yield {"step": step.name, **detections}


def _describe_counts(counted: ModelStatistics | None) -> Document | None:
    """Return the milliseconds that the server counted: means, if it answered others meanwhile; None without a count."""
    if counted is None or not counted.requests:
        return None
    count = counted.requests
    return {
        "requests": count,
        "queue": counted.queue.total / count,
        "compute_input": counted.compute_input.total / count,
        "compute_infer": counted.compute_infer.total / count,
        "compute_output": counted.compute_output.total / count,
        "total": (counted.success.total + counted.failure.total) / count,
    }


def _count_responses(answer: _Answer) -> int:
    """Return the responses of a decoupled model, whose outputs are named ``index/name``."""
    return len({name.partition("/")[0] for name in answer.outputs})


def _compare(flow: DataFlow, whole: _Answer, answers: Sequence[Any]) -> str:
    """Return a sentence on how the answer of the ensemble differs from that of its steps; "" if it has none."""
    if not flow.steps or whole.error:
        return ""
    by_source = {
        f"{step.name}.{name}": array for step, answer in answers if answer for name, array in answer.outputs.items()
    }
    differing = []
    for name, array in whole.outputs.items():
        other = by_source.get(flow.sources.get(name, ""))
        if other is None or other.shape != array.shape or other.dtype != array.dtype:
            differing.append(name)
        elif not np.array_equal(array, other, equal_nan=array.dtype.kind == "f"):
            if array.dtype.kind == "f":
                largest = float(np.nanmax(np.abs(array.astype(np.float64) - other.astype(np.float64))))
                differing.append(f"{name} (by {largest:.2g} at most)")
            else:
                differing.append(name)
    if differing:
        return f"the ensemble's own answer differs from its steps' in {', '.join(differing)}"
    return "the ensemble's own answer is equal to its steps', bit for bit"
