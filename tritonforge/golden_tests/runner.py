"""Asks a server for the answers of cases: every step through its model's own endpoint, then the model itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy.typing as npt

from tritonforge.errors import CaseError, DecodeError, ServerError
from tritonforge.golden_tests.cases import Case, Source
from tritonforge.golden_tests.data_flow import DataFlow, find_outermost, plan_data_flow
from tritonforge.golden_tests.evaluation import Answer, CaseAnswer
from tritonforge.golden_tests.flow_client import FlowClient
from tritonforge.golden_tests.recordings import Recording
from tritonforge.inference.client import Client
from tritonforge.inference.transports import TensorMetadata
from tritonforge.inference.wire import RequestedOutput

__all__ = ["EndpointRunner", "RepositoryRunner"]

Array = npt.NDArray[Any]

#: Reads the value of an input in its datatype and shape.
ReadTensor = Callable[[Source, TensorMetadata], Array]

#: Classes whose labels are requested.
_CLASSES: Final = 10


class RepositoryRunner:
    """Asks a local server that serves all models of a repository.

    ``configs`` are the ModelConfig messages by model; ``open_stream`` returns the client of the gRPC port, for
    decoupled models.
    """

    def __init__(self, client: Client, configs: Mapping[str, Any], open_stream: Callable[[], Client | None]) -> None:
        self._client = client
        self._configs = configs
        self._flow_client = FlowClient(client, open_stream)
        self._flows: dict[str, DataFlow] = {}

    def plan(self, case: Case) -> DataFlow:
        """Return the data flow of the model of a case. Raises CaseError if the repository does not have it."""
        if case.model is None:
            names = find_outermost(self._configs)
            if len(names) != 1:
                raise CaseError(f'{case.name}: model is missing. Write "model": one of {", ".join(names)}')
        model = case.model or names[0]
        if model not in self._configs:
            raise CaseError(
                f"{case.name}: model: the repository has no model {model!r} (expected {', '.join(self._configs)})"
            )
        if model not in self._flows:
            self._flows[model] = plan_data_flow(self._configs, model)
        return self._flows[model]

    def ask(self, case: Case, flow: DataFlow, read_tensor: ReadTensor) -> CaseAnswer:
        """Return the answers to a case.

        Raises:
            CaseError, EncodeError: the inputs do not fit the model.
            ConnectError, DecodeError: the server gave no answer, or one that is not of the protocol.
        """
        inputs = self._read_inputs(case, flow, read_tensor)
        steps = []
        tensors: dict[str, Array] = dict(inputs)
        for step in flow.steps if case.error is None else ():
            if not set(step.inputs.values()) <= tensors.keys():
                continue  # a step before it failed
            arguments = {name: tensors[tensor] for name, tensor in step.inputs.items()}
            outputs = tuple(step.outputs)
            answer = self._ask_model(step.model, arguments, flow, version=step.version, outputs=outputs)
            steps.append((step, answer))
            tensors |= {step.outputs[name]: array for name, array in answer.outputs.items()}
        answer = self._ask_model(flow.model, inputs, flow)
        if flow.steps and not answer.error:
            by_source = {
                f"{step.name}.{name}": entry for step, result in steps for name, entry in result.labels.items()
            }
            labels = {name: by_source[source] for name, source in flow.sources.items() if source in by_source}
            answer = Answer(answer.outputs, labels)
        return CaseAnswer(inputs, tuple(steps), answer)

    def _read_inputs(self, case: Case, flow: DataFlow, read_tensor: ReadTensor) -> dict[str, Array]:
        known = {tensor.name: tensor for tensor in self._client.metadata(flow.model).inputs}
        for name in case.inputs:
            if name not in known:
                raise CaseError(
                    f"{case.name}: inputs.{name}: {flow.model} has no such input (expected {', '.join(known)})"
                )
        return {name: read_tensor(source, known[name]) for name, source in case.inputs.items()}

    def _ask_model(
        self,
        model: str,
        inputs: Mapping[str, Array],
        flow: DataFlow,
        *,
        version: str = "",
        outputs: tuple[str, ...] = (),
    ) -> Answer:
        try:
            arrays = self._flow_client.infer(model, inputs, flow, version=version, outputs=outputs)
        except ServerError as error:
            return Answer(error=error.message)
        if flow.is_decoupled:
            return Answer(arrays)
        labelled = () if flow.is_sequence else self._client.metadata(model).labelled_outputs
        names = [name for name in labelled if name in arrays]
        return Answer(arrays, _ask_labels(self._client, inputs, names, model=model, version=version))


class EndpointRunner:
    """Asks a deployed endpoint: it has no steps, and its inputs are as the recording states them."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def ask(self, case: Case, recording: Recording | None, read_tensor: ReadTensor) -> CaseAnswer:
        """Return the answer of the model itself. Raises as `RepositoryRunner.ask` does."""
        model = case.model or (None if recording is None else recording.model)
        has_models = self._client.fetch_metadata(model) is not None
        named = model if has_models else None
        if recording is not None:
            known = {
                name: TensorMetadata(name, entry.datatype, entry.shape) for name, entry in recording.inputs.items()
            }
        else:
            known = {tensor.name: tensor for tensor in self._client.metadata(named, inputs=tuple(case.inputs)).inputs}
        for name in case.inputs:
            if name not in known:
                raise CaseError(f"{case.name}: inputs.{name}: no such input (expected {', '.join(known) or 'none'})")
        inputs = {name: read_tensor(source, known[name]) for name, source in case.inputs.items()}
        try:
            response = self._client.infer(inputs, model=named)
        except ServerError as error:
            return CaseAnswer(inputs, (), Answer(error=error.message))
        records = {} if recording is None else recording.outputs
        labelled = [
            name
            for name in response.outputs
            if (name in records and records[name].labels)
            or any(isinstance(entry, str) for row in _list_classes(case, name) for entry in row)
        ]
        labels = _ask_labels(self._client, inputs, labelled, model=named, version="")
        return CaseAnswer(inputs, (), Answer(response.outputs, labels))


def _list_classes(case: Case, output: str) -> tuple[tuple[int | str, ...], ...]:
    return case.outputs[output].classes if output in case.outputs else ()


def _ask_labels(
    client: Client, inputs: Mapping[str, Array], outputs: list[str], *, model: str | None, version: str
) -> dict[str, dict[int, str]]:
    """Return the labels of the best classes of all rows, by output; the model runs once more for them."""
    if not outputs:
        return {}
    requested = [RequestedOutput(name, classification=_CLASSES) for name in outputs]
    try:
        response = client.infer(inputs, model=model, model_version=version, outputs=requested)
        return {
            name: {entry.index: entry.label for row in response.classes(name) for entry in row if entry.label}
            for name in outputs
        }
    except (ServerError, DecodeError):
        return {}
