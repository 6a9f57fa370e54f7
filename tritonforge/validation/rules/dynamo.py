"""A repository that NVIDIA Dynamo serves: what its frontend and its Triton worker do not carry. No I/O.

Dynamo documents four limits in 1.5 (FP16 and BF16, classification, versions, client shared memory) and two in 1.6
(versions, client shared memory); no repository states whether clients use shared memory. That sequences do not work was
read in its worker. Sources: the rows of `tritonforge.triton.targets`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.validation.context import Context, ModelView
from tritonforge.validation.findings import Finding
from tritonforge.validation.registry import Stage, define_advice, register_check
from tritonforge.validation.rules.request_refusals import has_sequences

_LIMITS: Final = "ai-dynamo/dynamo docs, backends/triton/overview.md, Known limitations"

# fmt: off
W461 = define_advice("W461", "requests with FP16 or BF16 tensors are refused",
    source=f"{_LIMITS} (1.5); components/src/dynamo/triton/handlers.py _UNSUPPORTED_INPUT_DTYPES",
    why="The tensors of Dynamo 1.5 have no half-precision data type: dynamo does not support Float16 input tensors. "
        "Steps of an ensemble may use them among themselves.",
    bad="input { data_type: TYPE_FP16 }   --target dynamo --target-version 1.5",
    good="input { data_type: TYPE_FP16 }   --target dynamo --target-version 1.6")
W462 = define_advice("W462", "clients reach one version of <m> only",
    source=f"{_LIMITS} (1.5 and 1.6)",
    why="Dynamo routes by the model's name. A request for a version is answered by the model's default version, the "
        "newest, and the others are loaded for nothing.",
    bad="version_policy { all {} } with 1/ and 2/", good="version_policy { latest { num_versions: 1 } }")
W463 = define_advice("W463", "requests without a correlation ID are refused: <m> takes sequences",
    source="ai-dynamo/dynamo components/src/dynamo/triton/handlers.py RequestHandler.generate (1.5 and 1.6); core "
           "sequence_batch_scheduler.cc SequenceBatchScheduler::Enqueue",
    why="Dynamo's worker hands the tensors of a request to Triton and none of its parameters, so that no sequence ID "
        "arrives.",
    bad="sequence_batching { }", good="dynamic_batching { }")
W464 = define_advice("W464", "clients cannot ask for the labels of an output",
    source=f"{_LIMITS} (1.5)",
    why="Dynamo 1.5 drops the parameter classification of a requested output and returns the raw tensor.",
    bad="label_filename: \"labels.txt\"   --target dynamo --target-version 1.5",
    good="label_filename: \"labels.txt\"   --target dynamo --target-version 1.6")
# fmt: on


@register_check(Stage.LOADED, W461, W462, W463, W464)
def check_dynamo(context: Context) -> Iterator[Finding]:
    """Check the models that clients ask: those that no ensemble uses."""
    if context.options.target != "dynamo":
        return
    models = [model for model in context.models.values() if model.parsed]
    steps = {step.model for model in models if model.is_ensemble for step in model.steps}
    for model in models:
        if model.name not in steps:
            yield from _check_model(context, model)


def _check_model(context: Context, model: ModelView) -> Iterator[Finding]:
    serving = context.serving
    where = f"{serving.title} {serving.version}"
    for tensor in (*model.inputs, *model.outputs):
        if tensor.data_type in serving.refused_types:
            yield W461.report_in(
                model,
                f"{where} refuses tensors of {tensor.data_type}, such as '{tensor.name}' of {model.name}",
                tensor.node.one("data_type"),
                "use TYPE_FP32, or Dynamo 1.6",
            )
    if len(model.versions) > 1:
        loaded = ", ".join(map(str, model.versions))
        yield W462.report_in(
            model,
            f"{where} has no versions: of {loaded} of {model.name} clients reach {model.versions[-1]} only",
            model.document.one("version_policy"),
            "load the newest version only, or give each version a model of its own",
        )
    if has_sequences(model):
        yield W463.report_in(
            model,
            f"every request to {model.name} is refused: {where} hands on no correlation ID, and the model takes "
            "sequences",
            model.document.one("sequence_batching"),
            "serve the model with Triton's own endpoints",
        )
    for tensor in () if serving.has_classification else model.outputs:
        if label := tensor.node.one("label_filename"):
            yield W464.report_in(
                model,
                f"{where} drops requests for a classification: the labels of '{tensor.name}' of {model.name} are "
                "not used",
                label,
                "return the labels from the model, or use Dynamo 1.6",
            )
