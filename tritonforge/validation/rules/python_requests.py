"""What a Python model's code names: its own tensors, and the models that it sends requests to (BLS). No I/O.

The messages are those of the real backend (2.51); the model loads, and the request during which the line runs fails.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.python_models import list_python_paths, read_python_models
from tritonforge.validation.python_requests import (
    ModelRequest,
    NamedTensor,
    find_unsupported_array,
    list_input_names,
    list_output_names,
    read_requests,
)
from tritonforge.validation.registry import Rule, Stage, define_advice, define_error, register_check

_EXECUTOR: Final = "python_backend request_executor.cc RequestExecutor::Infer"
_SERVE: Final = "server docker/sagemaker/serve; deep-learning-containers issue 3299"

# fmt: off
E850 = define_error("E850", "AttributeError: 'NoneType' object has no attribute 'as_numpy': the model has no input "
                            "'<x>'",
    refused_by=None, source="python_backend triton_python_backend_utils.py get_input_tensor_by_name",
    why="get_input_tensor_by_name returns None for an input that a request does not have, and a request has the "
        "inputs of the configuration only. Every request to the model fails.",
    bad='pb_utils.get_input_tensor_by_name(request, "IN").as_numpy() with input [{ name: "IN0" ... }]',
    good='pb_utils.get_input_tensor_by_name(request, "IN0").as_numpy()')
E851 = define_error("E851", "Failed for execute the inference request. Model '<x>' is not ready.",
    refused_by=None, source=_EXECUTOR,
    why="A request to a model that the repository does not have fails whenever it is sent.",
    bad='pb_utils.InferenceRequest(model_name="resnet", ...) without the directory resnet',
    good="the directory resnet beside the model's")
E852 = define_error("E852", "Failed for execute the inference request. Model '<x>' is not ready: it is not loaded",
    refused_by=None, source=f"{_EXECUTOR}; {_SERVE}",
    why="A SageMaker endpoint loads the default model and, where that is an ensemble, the models of its steps; a model "
        "that only Python code sends requests to is not among them.",
    bad='pb_utils.InferenceRequest(model_name="x", ...)   --target sagemaker',
    good='pb_utils.load_model(model_name="x") in initialize, or SAGEMAKER_TRITON_ADDITIONAL_ARGS=--load-model=x')
E853 = define_error("E853", "unexpected inference <input or output> '<name>' for model '<x>'",
    refused_by=None, source=f"{_EXECUTOR}; core infer_request.cc InferenceRequest::Normalize",
    why="A request names inputs and outputs of the other model's configuration.",
    bad='requested_output_names=["PROB"] of a model with output [{ name: "prob" ... }]',
    good='requested_output_names=["prob"]')
E854 = define_error("E854", "Model <x> is using the decoupled. The current BLS request call doesn't support models "
                            "using the decoupled transaction policy.",
    refused_by=None, source=_EXECUTOR,
    why="A decoupled model may send any number of responses; exec then returns an iterator.",
    bad="request.exec()", good="for response in request.exec(decoupled=True): ...")
E855 = define_error("E855", "every request to <m> sends another one to <m>: none is ever answered",
    refused_by=None, source="python_backend README.md, Business Logic Scripting, limitations",
    why="The models wait for each other until the client's time is over.",
    bad='model a: pb_utils.InferenceRequest(model_name="b", ...).exec()\nmodel b: '
        'pb_utils.InferenceRequest(model_name="a", ...).exec()',
    good="model b answers without model a")
E856 = define_error("E856", "NumPy dtype is not supported.",
    refused_by=None, source="python_backend pb_stub_utils.cc numpy_to_triton_type, pb_tensor.cc PbTensor",
    why="NumPy gives an array of str a type of its own, which has no datatype of Triton; TYPE_STRING is an array of "
        "objects or of bytes. A tensor is made of an array, not of a list.",
    bad='pb_utils.Tensor("TEXT", np.array(["a", "b"]))',
    good='pb_utils.Tensor("TEXT", np.array(["a", "b"], dtype=np.object_))')
W850 = define_advice("W850", "the model has no output '<output>': the backend drops it from every response",
    source="python_backend infer_response.cc InferResponse::PruneOutputTensors",
    why="A response has the outputs that the client asks for, by default all of the configuration. The client never "
        "sees this tensor, and no error is reported.",
    bad='pb_utils.Tensor("OUT", ...) with output [{ name: "OUT0" ... }]', good='pb_utils.Tensor("OUT0", ...)')
W851 = define_advice("W851", "<m> may send a request that leads to another request to <m>",
    source="python_backend README.md, Business Logic Scripting, limitations",
    why="Where no instance of the model is free, such a request is never answered.",
    bad='model a: if retry: pb_utils.InferenceRequest(model_name="a", ...).exec()',
    good="a loop in model a")
# fmt: on


@register_check(Stage.FILES, E850, W850, E856)
def check_tensors(context: Context, model: ModelView) -> Iterator[Finding]:
    """Check the tensors that the code names against the configuration."""
    for code in read_python_models(context, model):
        read_requests(context.tree, code.path)  # while its syntax tree is kept
        if not model.completes and model.parsed and (model.has_config or model.is_completed):
            inputs, outputs = _list_tensors(model)
            for tensor in list_input_names(code):
                if inputs and tensor.name not in inputs:
                    message = (
                        f"AttributeError: 'NoneType' object has no attribute 'as_numpy': the model has no input "
                        f"'{tensor.name}'"
                    )
                    yield _report(E850, message, tensor, _name("inputs", inputs))
            for tensor in list_output_names(code):
                if outputs and tensor.name not in outputs:
                    message = f"the model has no output '{tensor.name}': the backend drops it from every response"
                    yield _report(W850, message, tensor, _name("outputs", outputs))
        for tensor, is_other in find_unsupported_array(code):
            message, advice = "NumPy dtype is not supported.", "give np.array dtype=np.object_, or encode the texts"
            if is_other:
                message = "TypeError: __init__(): incompatible constructor arguments: pb_utils.Tensor takes an array"
                advice = "make an array of it: np.array(..., dtype=...)"
            yield _report(E856, message, tensor, advice)


def _list_tensors(model: ModelView) -> tuple[set[str], set[str]]:
    """Return the names that requests and responses of a model may have: those of sequences and batch tensors, too."""
    inputs = {tensor.name for tensor in model.inputs}
    outputs = {tensor.name for tensor in model.outputs}
    sequence = model.document.message("sequence_batching")
    if sequence is not None:
        inputs |= {control.text("name") for control in sequence.messages("control_input")}
        inputs |= {state.text("input_name") for state in sequence.messages("state")}
        outputs |= {state.text("output_name") for state in sequence.messages("state")}
    for names, kind in ((inputs, "batch_input"), (outputs, "batch_output")):
        for batch in model.document.messages(kind):
            names |= {str(node.value) for node in batch.get("target_name")}
    return inputs, outputs


def _name(kind: str, names: set[str]) -> str:
    return f"the model's {kind} are: {', '.join(sorted(names)[:20])}"


@register_check(Stage.LOADED, E851, E852, E853, E854, E855, W851)
def check_requests(context: Context) -> Iterator[Finding]:
    """Check the requests that Python models send to other models."""
    senders = []
    for name in context.models:
        model = context.models[name]
        for _, path in list_python_paths(context, model):
            requests, loads_models = read_requests(context.tree, path)
            senders.append(_Sender(name, requests))
            for request in requests:
                yield from _check_request(context, name, request, loads_models=loads_models)
    yield from _check_circles(context.models, senders)


@dataclass(frozen=True, slots=True)
class _Sender:
    """A version of a model, and the requests that its code sends."""

    model: str
    requests: Sequence[ModelRequest]


def _check_request(context: Context, sender: str, request: ModelRequest, *, loads_models: bool) -> Iterator[Finding]:
    place = NamedTensor(request.model, request.path, request.line, request.column)
    target = context.models.get(request.model)
    not_ready = f"Failed for execute the inference request. Model '{request.model}' is not ready."
    if target is None and not context.tree.is_dir(request.model):
        if not loads_models and not context.tree.truncated and not context.tree.leaves(request.model):
            names = ", ".join(sorted(context.models)[:20])
            yield _report(E851, not_ready, place, f"the repository has: {names}")
        return
    if not loads_models and not _is_loaded(context, sender, request.model):
        advice = (
            f'call pb_utils.load_model(model_name="{request.model}") in initialize, set '
            f"SAGEMAKER_TRITON_ADDITIONAL_ARGS=--load-model={request.model} (Triton 23.07 and later), or make an "
            "ensemble of the models the default model"
        )
        if context.options.target != "sagemaker":
            advice = f"add --load-model={request.model}"
        yield _report(E852, f"{not_ready[:-1]}: it is not loaded", place, advice)
    if target is None or target.completes or not target.parsed or not (target.has_config or target.is_completed):
        return
    for kind, given, tensors in (("input", request.inputs, target.inputs), ("output", request.outputs, target.outputs)):
        declared = {tensor.name for tensor in tensors}
        for name in given if declared else ():
            if name not in declared:
                message = f"unexpected inference {kind} '{name}' for model '{request.model}'"
                yield _report(E853, message, place, f"its {kind}s are: {', '.join(sorted(declared)[:20])}")
    if target.decoupled and request.is_decoupled is False:
        message = (
            f"Model {request.model} is using the decoupled. The current BLS request call doesn't support models using "
            "the decoupled transaction policy."
        )
        yield _report(E854, message, place, "call exec(decoupled=True), and iterate over the responses")


def _is_loaded(context: Context, sender: str, target: str) -> bool:
    """Return True if some start of the server loads the target together with the sender."""
    if sender == target:
        return True
    if target in (context.options.environment or {}).get("SAGEMAKER_TRITON_ADDITIONAL_ARGS", ""):
        return True
    if context.options.load_models is not None or context.options.target != "sagemaker":
        return target in context.models
    return any({sender, target} <= _list_steps(context.models, root) for root in context.models)


def _list_steps(models: Mapping[str, ModelView], root: str) -> set[str]:
    """Return a model and, for an ensemble, the models of its steps and of theirs."""
    reached, waiting = set[str](), [root]
    while waiting:
        name = waiting.pop()
        if name in reached or name not in models:
            continue
        reached.add(name)
        waiting += models[name].step_models
    return reached


def _check_circles(models: Mapping[str, ModelView], senders: list[_Sender]) -> Iterator[Finding]:
    """Report the requests that lead back to their sender: errors where all of the circle is certain."""
    for is_certain, rule in ((True, E855), (False, W851)):
        targets = {name: _list_steps(models, name) for name, model in models.items() if model.is_ensemble}
        for sender in senders:
            names = {request.model for request in sender.requests if request.is_certain or not is_certain}
            targets.setdefault(sender.model, set()).update(names)
        for sender in senders:
            for request in sender.requests:
                if request.is_certain != is_certain or not _reaches(targets, request.model, sender.model):
                    continue
                name = sender.model
                message = f"{name} may send a request that leads to another request to {name}"
                advice = "a model that waits for itself is answered only while another instance is free"
                if is_certain:
                    message = f"every request to {name} sends another one to {name}: none is ever answered"
                    advice = "break the circle"
                place = NamedTensor(request.model, request.path, request.line, request.column)
                yield _report(rule, message, place, advice)


def _reaches(targets: Mapping[str, set[str]], start: str, goal: str) -> bool:
    reached, waiting = set[str](), [start]
    while waiting:
        name = waiting.pop()
        if name == goal:
            return True
        if name not in reached:
            reached.add(name)
            waiting += targets.get(name, ())
    return False


def _report(rule: Rule, message: str, place: NamedTensor, advice: str) -> Finding:
    return rule.report(message, path=place.path, line=place.line, column=place.column, help=advice)
