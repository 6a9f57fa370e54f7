"""Repositories that load and then refuse requests: what is certain from the configurations alone. No I/O.

Source: the answers of the real server (tests/validation/test_rules_requests.py asks it for each rule). They are advice,
since the server loads the models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from tritonforge.model_files.signature import shapes_agree
from tritonforge.pbtxt import Message, Node
from tritonforge.triton.changes import FULL_QUEUES
from tritonforge.validation.context import Context, MappedTensor, ModelView, StepView, TensorView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, register_check
from tritonforge.validation.rules.tensors import format_shape

_NORMALIZE: Final = "infer_request.cc InferenceRequest::Normalize"

# fmt: off
W340 = define_advice("W340", "every infer request over HTTP is answered 501: a step makes the ensemble decoupled",
    source="server http_server.cc: HTTP end point doesn't support models with decoupled transaction policy",
    why="An ensemble with a decoupled step is decoupled itself, and Triton's HTTP front end refuses to infer with "
        "it; gRPC streaming and the generate extension ask it.",
    bad="ensemble_scheduling { step { ... } } with a model of model_transaction_policy { decoupled: true }",
    good="the same, asked over gRPC with ModelStreamInfer")
W341 = define_advice("W341", "every request to the endpoint is answered 501: the model that it asks is decoupled",
    source="server http_server.cc: HTTP end point doesn't support models with decoupled transaction policy",
    why="SageMaker's /invocations is HTTP. From 25.03 on, SAGEMAKER_TRITON_INFERENCE_TYPE=generate_stream asks the "
        "generate extension, which takes decoupled models.",
    bad="model_transaction_policy { decoupled: true }   --target sagemaker",
    good="model_transaction_policy { decoupled: false }   --target sagemaker")
W342 = define_advice("W342", "requests without a correlation ID are refused: a step of the ensemble takes sequences",
    source="sequence_batch_scheduler.cc SequenceBatchScheduler::Enqueue",
    why="The ensemble hands the request's correlation ID on to its steps; without one the step's scheduler refuses.",
    bad="a step whose model has sequence_batching, asked without sequence_id",
    good='"parameters": { "sequence_id": 7, "sequence_start": true } in the request')
W343 = define_advice("W343", "requests are refused by their first dimension: it is the batch of a step that takes "
                             "smaller batches",
    source=_NORMALIZE,
    why="An ensemble without batching takes its first dimension for the batch of a step that batches, of any size; "
        "the step takes up to its max_batch_size.",
    bad="dims: [-1, 4] in an ensemble without max_batch_size, max_batch_size: 8 dims: [4] in the step's model",
    good="max_batch_size: 8 dims: [4] in the ensemble")
W344 = define_advice("W344", "requests of another size than a step's fixed one are taken by the ensemble and "
                             "refused by the step",
    source=_NORMALIZE,
    why="-1 agrees with every size when the ensemble is loaded; the step's model takes one.",
    bad="dims: [-1] of the ensemble's input, dims: [4] of the model's", good="dims: [4] in both")
W349 = define_advice("W349", "a full queue of a step leaves requests without an answer or ends the server: another "
                             "step runs beside it",
    source=FULL_QUEUES.source,
    why="Up to 26.01 the ensemble scheduler does not finish a request of which one step is refused (Exceeds maximum "
        "queue size) while another one runs. The request is never answered; where the refused step comes first, the "
        "server may end with a segmentation fault. Steps in a row are not affected.",
    bad="two steps that read the ensemble's input, one with dynamic_batching { default_queue_policy { max_queue_size: "
        "8 } } in its model",
    good="a limit of the queue in the models of steps that run alone, or image 26.02")
# fmt: on

#: How many steps with a limited queue are checked in an ensemble: the work grows with the square of the steps.
_MAXIMAL_LIMITED_STEPS: Final = 10


@register_check(Stage.LOADED, W341)
def check_sagemaker_model(context: Context) -> Iterator[Finding]:
    """Check that the model of a single-model endpoint, which is asked over HTTP, is not decoupled."""
    inference_type = (context.options.environment or {}).get("SAGEMAKER_TRITON_INFERENCE_TYPE")
    if context.options.target != "sagemaker" or inference_type in ("generate", "generate_stream"):
        return
    model = context.models.get(_find_sagemaker_model(context) or "")
    cause = _find_model(context, model, lambda step: step.decoupled) if model is not None and model.parsed else None
    if model is not None and cause is not None:
        yield W341.report_in(
            model,
            f"every request to the endpoint is answered 501: {_explain(model, cause)}",
            model.document.one("model_transaction_policy"),
            "SAGEMAKER_TRITON_INFERENCE_TYPE=generate_stream (25.03 and later) takes decoupled models",
        )


@register_check(Stage.LOADED, W340, W342, W343, W344)
def check_ensemble_requests(context: Context) -> Iterator[Finding]:
    """Find requests that an ensemble accepts and one of its steps refuses."""
    for ensemble in context.models.values():
        if not ensemble.parsed or not ensemble.is_ensemble:
            continue
        cause = _find_model(context, ensemble, lambda model: model.decoupled)
        if cause is not None and cause is not ensemble:
            yield W340.report(
                f"every infer request over HTTP is answered 501: {_explain(ensemble, cause)}",
                path=ensemble.config_path,
                node=_find_step(context, ensemble, cause),
                help="ask it over gRPC with streaming, or by the generate extension",
            )
        yield from _check_sequences(context, ensemble)
        yield from _check_tensors(context, ensemble)


@register_check(Stage.LOADED, W349)
def check_full_queues(context: Context) -> Iterator[Finding]:
    """Find steps whose queue may be full while another step of the same request runs."""
    if not context.has(FULL_QUEUES):
        return
    limits = {model.name: node for model in context.models.values() if (node := _find_queue_limit(model)) is not None}
    for ensemble in context.models.values() if limits else ():
        if not ensemble.parsed or not ensemble.is_ensemble:
            continue
        for step in [step for step in ensemble.steps if step.model in limits][:_MAXIMAL_LIMITED_STEPS]:
            other = _find_parallel_step(ensemble, step)
            if other is not None:
                model = context.models[step.model]
                yield W349.report_in(
                    model,
                    f"when the queue of {model.name} is full, requests to {ensemble.name} are not answered or the "
                    f"server ends: step {other.index}, {other.model}, runs beside it",
                    limits[model.name],
                    "leave out max_queue_size, limit the queue of a step that runs alone, or use image 26.02 or later",
                )
                break


def _find_queue_limit(model: ModelView) -> Node | None:
    """Return the first max_queue_size above 0 of a model's queues, None where they have no limit."""
    batching = model.document.message("dynamic_batching")
    if batching is None or model.is_ensemble:
        return None
    policies = [batching.message("default_queue_policy")]
    policies += [entry.message("value") for entry in batching.entries("priority_queue_policy").values()]
    for policy in policies:
        if policy is not None and policy.integer("max_queue_size") > 0:
            return policy.one("max_queue_size")
    return None


def _find_parallel_step(ensemble: ModelView, step: StepView) -> StepView | None:
    """Return the first step that neither feeds a step nor is fed by it, over other steps or directly; else None."""
    readers: dict[str, list[StepView]] = {}
    writers: dict[str, list[StepView]] = {}
    for candidate in ensemble.steps:
        for mapped in candidate.inputs.values():
            readers.setdefault(mapped.tensor, []).append(candidate)
        for mapped in candidate.outputs.values():
            writers.setdefault(mapped.tensor, []).append(candidate)
    related = _list_reached(step, readers, forward=True) | _list_reached(step, writers, forward=False)
    return next((other for other in ensemble.steps if other.index not in related), None)


def _list_reached(step: StepView, neighbours: Mapping[str, Sequence[StepView]], *, forward: bool) -> set[int]:
    """Return the indexes of a step and of all that its outputs reach (``forward``), or that reach its inputs."""
    reached, pending = {step.index}, [step]
    for current in pending:
        for mapped in (current.outputs if forward else current.inputs).values():
            for neighbour in neighbours.get(mapped.tensor, ()):
                if neighbour.index not in reached:
                    reached.add(neighbour.index)
                    pending.append(neighbour)
    return reached


def _find_sagemaker_model(context: Context) -> str | None:
    """Return the model that a single-model endpoint asks, None where the repository does not decide it."""
    if context.options.load_models is not None:
        return context.options.load_models[0] if len(context.options.load_models) == 1 else None
    return next(iter(context.models)) if len(context.models) == 1 else None


def _find_model(context: Context, root: ModelView, fits: Callable[[ModelView], bool]) -> ModelView | None:
    """Return the first of the model itself and those of its steps, nested ensembles included, that fits; else None."""
    seen, pending = {root.name}, [root]
    for model in pending:
        if fits(model):
            return model
        for name in model.step_models if model.is_ensemble else ():
            step = context.models.get(name)
            if step is not None and step.parsed and name not in seen:
                seen.add(name)
                pending.append(step)
    return None


def _explain(ensemble: ModelView, cause: ModelView) -> str:
    if cause is ensemble:
        return f"{ensemble.name} is decoupled"
    return f"{cause.name}, which a step of {ensemble.name} asks, is decoupled"


def _find_step(context: Context, ensemble: ModelView, cause: ModelView) -> Message | None:
    """Return the step that leads to a model."""
    for step in ensemble.steps:
        model = context.models.get(step.model)
        if model is not None and _find_model(context, model, lambda candidate: candidate is cause) is not None:
            return step.node
    return None


def has_sequences(model: ModelView) -> bool:
    """Return True if a model takes sequences, whose requests carry a correlation ID."""
    sequence = model.document.message("sequence_batching")
    return sequence is not None and not sequence.flag("iterative_sequence")


def _check_sequences(context: Context, ensemble: ModelView) -> Iterator[Finding]:
    cause = _find_model(context, ensemble, has_sequences)
    if cause is not None:
        message = (
            f"requests without a correlation ID are refused: {cause.name}, which a step of {ensemble.name} asks, takes "
            "sequences"
        )
        advice = "send sequence_id, sequence_start and sequence_end with every request"
        yield W342.report(message, path=ensemble.config_path, node=_find_step(context, ensemble, cause), help=advice)


def _check_tensors(context: Context, ensemble: ModelView) -> Iterator[Finding]:
    """Compare the inputs of an ensemble with the inputs of the models that they feed."""
    fed = {tensor.name: tensor for tensor in ensemble.inputs}
    for step in ensemble.steps:
        model = context.models.get(step.model)
        if model is None or not model.parsed or (model.completes and not model.document.has("max_batch_size")):
            continue
        for tensor in model.inputs:
            mapped = step.inputs.get(tensor.name)
            if mapped is not None and mapped.tensor in fed and tensor.dims:
                yield from _check_fed_input(ensemble, fed[mapped.tensor], step, model, tensor, mapped)


def _check_fed_input(
    ensemble: ModelView, given: TensorView, step: StepView, model: ModelView, tensor: TensorView, mapped: MappedTensor
) -> Iterator[Finding]:
    dims = given.reshape if given.reshape is not None else given.dims
    limit = model.max_batch_size
    if shapes_agree(dims, tensor.dims):
        own = dims
    elif ensemble.max_batch_size <= 0 < limit and shapes_agree(dims, (-1, *tensor.dims)):
        own = dims[1:]
        if dims[0] == -1 or dims[0] > limit:
            which = "every request is" if dims[0] > limit else f"requests of more than {limit} are"
            message = (
                f"{which} refused by {model.name}: the first dimension of ensemble tensor {mapped.tensor}, "
                f"{format_shape(dims)}, is the batch of {model.name}, whose max_batch_size is {limit}"
            )
            advice = f"give {ensemble.name} max_batch_size: {limit} and the dims {format_shape(tensor.dims)}"
            yield W343.report(message, path=ensemble.config_path, node=mapped.node, help=advice)
    else:
        return  # refused when it is loaded, or the batch of a model without batching (W301, W302)
    if any(size == -1 != fixed for size, fixed in zip(own, tensor.dims, strict=True)):
        message = (
            f"ensemble tensor {mapped.tensor} is {format_shape(dims)} in {ensemble.name} and feeds the input "
            f"'{tensor.name}' of {model.name}, {format_shape(tensor.dims)}: requests of other sizes pass the ensemble "
            f"and fail in step {step.index}"
        )
        advice = f"write the dims {format_shape(tensor.dims)} in {ensemble.name}"
        yield W344.report(message, path=ensemble.config_path, node=mapped.node, help=advice)
