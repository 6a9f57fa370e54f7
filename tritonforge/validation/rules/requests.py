"""Repositories that load and then refuse requests: what is certain of it from the configurations alone. No I/O.

Source: the answers of the real server (tests/validation/test_rules_requests.py asks it for each rule). They
are advice, since the server loads the models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from tritonforge.model_files.signature import shapes_agree
from tritonforge.pbtxt import Message
from tritonforge.validation.findings import Finding
from tritonforge.validation.rules.catalogue import Rule, advice
from tritonforge.validation.rules.context import Context, ModelView, TensorView
from tritonforge.validation.rules.ensemble.steps import Mapped, Step, steps, wanted
from tritonforge.validation.rules.model.report import shape

__all__ = ["RULES", "check"]

_NORMALIZE: Final = "infer_request.cc InferenceRequest::Normalize"

DECOUPLED: Final = advice(
    "W340",
    "every infer request over HTTP is answered 501: a step makes the ensemble decoupled",
    source="server http_server.cc: HTTP end point doesn't support models with decoupled transaction policy",
    why="An ensemble with a decoupled step is decoupled itself, and Triton's HTTP front end refuses to infer with it; "
    "gRPC streaming and the generate extension ask it.",
    bad="ensemble_scheduling { step { ... } } with a model of model_transaction_policy { decoupled: true }",
    good="the same, asked over gRPC with ModelStreamInfer",
)
DECOUPLED_ON_SAGEMAKER: Final = advice(
    "W341",
    "every request to the endpoint is answered 501: the model that it asks is decoupled",
    source="server http_server.cc: HTTP end point doesn't support models with decoupled transaction policy",
    why="SageMaker's /invocations is HTTP. From 25.03 on, SAGEMAKER_TRITON_INFERENCE_TYPE=generate_stream asks the "
    "generate extension, which takes decoupled models.",
    bad="model_transaction_policy { decoupled: true }   --target sagemaker",
    good="model_transaction_policy { decoupled: false }   --target sagemaker",
)
SEQUENCE: Final = advice(
    "W342",
    "requests without a correlation ID are refused: a step of the ensemble takes sequences",
    source="sequence_batch_scheduler.cc SequenceBatchScheduler::Enqueue",
    why="The ensemble hands the request's correlation ID on to its steps; without one the step's scheduler refuses.",
    bad="a step whose model has sequence_batching, asked without sequence_id",
    good='"parameters": { "sequence_id": 7, "sequence_start": true } in the request',
)
BATCH_SIZE: Final = advice(
    "W343",
    "requests are refused by their first dimension: it is the batch of a step that takes smaller batches",
    source=_NORMALIZE,
    why="An ensemble without batching takes its first dimension for the batch of a step that batches, of any size; the "
    "step takes up to its max_batch_size.",
    bad="dims: [-1, 4] in an ensemble without max_batch_size, max_batch_size: 8 dims: [4] in the step's model",
    good="max_batch_size: 8 dims: [4] in the ensemble",
)
EXTENT: Final = advice(
    "W344",
    "requests of another size than a step's fixed one are taken by the ensemble and refused by the step",
    source=_NORMALIZE,
    why="-1 agrees with every size when the ensemble is loaded; the step's model takes one.",
    bad="dims: [-1] of the ensemble's input, dims: [4] of the model's",
    good="dims: [4] in both",
)
TIMEOUT: Final = advice(
    "W345",
    "requests that are not joined by others are rejected: they time out before the batcher stops waiting",
    source="dynamic_batch_scheduler.cc GetDynamicBatch, scheduler_utils.cc PriorityQueue (REJECT)",
    why="The batcher holds a request up to max_queue_delay_microseconds for a preferred batch, and the queue rejects "
    "it after default_timeout_microseconds: the answer is 503, Request timeout expired.",
    bad="max_queue_delay_microseconds: 1000 default_queue_policy { default_timeout_microseconds: 100 }",
    good="max_queue_delay_microseconds: 100 default_queue_policy { default_timeout_microseconds: 1000 }",
)

RULES: Final[tuple[Rule, ...]] = (DECOUPLED, DECOUPLED_ON_SAGEMAKER, SEQUENCE, BATCH_SIZE, EXTENT, TIMEOUT)


def check(context: Context) -> Iterator[Finding]:
    """The findings of every model whose configuration the server takes."""
    asked = _asked_on_sagemaker(context) if context.target == "sagemaker" else None
    for view in context.models.values():
        if not view.parsed:
            continue
        yield from _timeouts(view)
        cause = _first(context, view, lambda model: model.decoupled)
        if view.name == asked and cause is not None:
            yield DECOUPLED_ON_SAGEMAKER.finding(
                f"every request to the endpoint is answered 501: {_because(view, cause)}",
                path=view.config_path,
                node=view.place(view.document.one("model_transaction_policy")),
                help="SAGEMAKER_TRITON_INFERENCE_TYPE=generate_stream (25.03 and later) takes decoupled models",
            )
        if view.is_ensemble:
            if cause is not None and cause is not view:
                yield DECOUPLED.finding(
                    f"every infer request over HTTP is answered 501: {_because(view, cause)}",
                    path=view.config_path,
                    node=_step_of(context, view, cause),
                    help="ask it over gRPC with streaming, or by the generate extension",
                )
            yield from _sequence(context, view)
            yield from _tensors(context, view)


def _asked_on_sagemaker(context: Context) -> str | None:
    """The model that a single-model endpoint asks, where the repository says which it is."""
    if context.load is not None:
        return context.load[0] if len(context.load) == 1 else None
    return next(iter(context.models)) if len(context.models) == 1 else None


def _first(context: Context, view: ModelView, holds: Callable[[ModelView], bool]) -> ModelView | None:
    """The model itself, or the first among those that its steps ask, nested ensembles included, of which it holds."""
    seen, pending = {view.name}, [view]
    for model in pending:
        if holds(model):
            return model
        for name in wanted(model) if model.is_ensemble else ():
            found = context.models.get(name)
            if found is not None and found.parsed and name not in seen:
                seen.add(name)
                pending.append(found)
    return None


def _because(view: ModelView, cause: ModelView) -> str:
    if cause is view:
        return f"{view.name} is decoupled"
    return f"{cause.name}, which a step of {view.name} asks, is decoupled"


def _step_of(context: Context, view: ModelView, cause: ModelView) -> Message | None:
    """The step that leads to a model."""
    for step in steps(view):
        model = context.models.get(step.model)
        if model is not None and _first(context, model, lambda each: each is cause) is not None:
            return step.node
    return None


def _takes_sequences(model: ModelView) -> bool:
    sequence = model.document.message("sequence_batching")
    return sequence is not None and not sequence.flag("iterative_sequence")


def _sequence(context: Context, view: ModelView) -> Iterator[Finding]:
    cause = _first(context, view, _takes_sequences)
    if cause is not None:
        words = (
            f"requests without a correlation ID are refused: {cause.name}, which a step of {view.name} asks, takes "
            "sequences"
        )
        help_ = "send sequence_id, sequence_start and sequence_end with every request"
        yield SEQUENCE.finding(words, path=view.config_path, node=_step_of(context, view, cause), help=help_)


def _tensors(context: Context, view: ModelView) -> Iterator[Finding]:
    """The inputs of an ensemble against the inputs of the models that they feed."""
    fed = {tensor.name: tensor for tensor in view.inputs}
    for step in steps(view):
        model = context.models.get(step.model)
        if model is None or not model.parsed or (model.completes and not model.document.has("max_batch_size")):
            continue
        for tensor in model.inputs:
            mapped = step.inputs.get(tensor.name)
            if mapped is not None and mapped.tensor in fed and tensor.dims:
                yield from _feed(view, fed[mapped.tensor], step, model, tensor, mapped)


def _feed(
    view: ModelView, given: TensorView, step: Step, model: ModelView, tensor: TensorView, mapped: Mapped
) -> Iterator[Finding]:
    dims = given.reshape if given.reshape is not None else given.dims
    limit = model.max_batch_size
    if shapes_agree(dims, tensor.dims):
        own = dims
    elif view.max_batch_size <= 0 < limit and shapes_agree(dims, (-1, *tensor.dims)):
        own = dims[1:]
        if dims[0] == -1 or dims[0] > limit:
            which = "every request is" if dims[0] > limit else f"requests of more than {limit} are"
            words = (
                f"{which} refused by {model.name}: the first dimension of ensemble tensor {mapped.tensor}, "
                f"{shape(dims)}, is the batch of {model.name}, whose max_batch_size is {limit}"
            )
            help_ = f"give {view.name} max_batch_size: {limit} and the dims {shape(tensor.dims)}"
            yield BATCH_SIZE.finding(words, path=view.config_path, node=mapped.node, help=help_)
    else:
        return  # refused when it is loaded, or the batch of a model without batching (W301, W302)
    if any(size == -1 != fixed for size, fixed in zip(own, tensor.dims, strict=True)):
        words = (
            f"ensemble tensor {mapped.tensor} is {shape(dims)} in {view.name} and feeds the input '{tensor.name}' of "
            f"{model.name}, {shape(tensor.dims)}: requests of other sizes pass the ensemble and fail in step "
            f"{step.index}"
        )
        help_ = f"write the dims {shape(tensor.dims)} in {view.name}"
        yield EXTENT.finding(words, path=view.config_path, node=mapped.node, help=help_)


def _timeouts(view: ModelView) -> Iterator[Finding]:
    """Queue policies that reject before the batcher has stopped waiting; the batcher waits for batches only."""
    dynamic = view.document.message("dynamic_batching")
    delay = dynamic.integer("max_queue_delay_microseconds") if dynamic is not None else 0
    if dynamic is None or not delay or view.max_batch_size <= 1:
        return
    if any(isinstance(node.value, int) and node.value <= 1 for node in dynamic.get("preferred_batch_size")):
        return
    policies = [dynamic.message("default_queue_policy")]
    policies += [entry.message("value") for entry in dynamic.messages("priority_queue_policy")]
    for policy in policies:
        timeout = policy.integer("default_timeout_microseconds") if policy is not None else 0
        if policy is None or not 0 < timeout <= delay or policy.text("timeout_action", "REJECT") not in ("REJECT", "0"):
            continue
        words = (
            f"a request that is not joined by others is rejected after {timeout} microseconds: the batcher would hold "
            f"it for {delay}"
        )
        help_ = "raise default_timeout_microseconds above max_queue_delay_microseconds, or lower the delay"
        node = policy.one("default_timeout_microseconds")
        yield TIMEOUT.finding(words, path=view.config_path, node=node, help=help_)
