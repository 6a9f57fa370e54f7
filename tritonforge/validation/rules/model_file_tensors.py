"""Inputs and outputs of a configuration that the model file does not have so. No I/O.

ONNX files and SavedModels are compared. The headers of other files do not state inputs and outputs, and DALI has rules
of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tritonforge.errors import ArtifactError
from tritonforge.model_files.config_check import Conflict, StatedModel, list_conflicts
from tritonforge.model_files.signature import Signature, TensorSpec
from tritonforge.validation.completed_views import complete_from_file
from tritonforge.validation.context import Context, ModelView, TensorView
from tritonforge.validation.findings import Finding
from tritonforge.validation.model_headers import list_signatures
from tritonforge.validation.registry import Rule, Stage, define_error, register_check

_SOURCE: Final = (
    "onnxruntime_backend src/onnxruntime.cc `ModelInstanceState`, tensorflow_backend src/tensorflow.cc, "
    "src/tensorflow_utils.cc"
)

# fmt: off
E820 = define_error("E820", "unexpected inference input '<name>', allowed inputs are: <names>",
    source=_SOURCE,
    why="The backend finds the model's tensors by the names in the configuration. They are those of the file.",
    bad='input [ { name: "image" ... } ] for a model whose input is "data"', good='input [ { name: "data" ... } ]')
E821 = define_error("E821", "unable to load model '<m>', configuration expects <n> inputs, model provides <n>",
    source=_SOURCE,
    why="Every input of the file is fed by a request, a control or a state.",
    bad="one input for a model that has two", good="both inputs")
E822 = define_error("E822", "unable to load model '<m>', configuration expects datatype <type> for <kind> '<name>', "
                            "model provides <type>",
    source=_SOURCE,
    why="The backend converts no element types.",
    bad="data_type: TYPE_UINT8 for a model that reads FP32", good="data_type: TYPE_FP32")
E823 = define_error("E823", "model '<m>', tensor '<name>': the model expects <n> dimensions (shape <shape>) but the "
                            "model configuration specifies <n> dimensions (<how>)",
    source="backend repository src/backend_common.cc `CompareDimsSupported`",
    why="With max_batch_size above 0 the file's first dimension is the batch and must be -1; the dims are the others.",
    bad="max_batch_size: 8 dims: [ 3, 224, 224 ] for a file of shape [1,3,224,224]",
    good="max_batch_size: 0 dims: [ 1, 3, 224, 224 ]")
E824 = define_error("E824", "unable to autofill for '<m>', configuration specified max-batch <n> but model signature "
                            "does not support batching",
    source="onnxruntime.cc, tensorflow.cc `AutoCompleteConfig`",
    why="What the configuration leaves out is taken from the file, but what it states contradicts the file.",
    bad="max_batch_size: 8 for a file of shape [1,3]", good="max_batch_size: 0")
# fmt: on

_RULES: Final[dict[str, Rule]] = {"name": E820, "count": E821, "data_type": E822, "shape": E823}


@register_check(Stage.FILES, E820, E821, E822, E823, E824)
def check_tensors(context: Context, model: ModelView) -> Iterator[Finding]:
    """Compare the inputs and outputs with the files of all versions."""
    if not model.parsed or any(model.document.has(field) for field in ("batch_input", "batch_output")):
        return  # they count as tensors of the file, and change shapes
    for path, signature in list_signatures(context.tree, model):
        if model.completes:
            try:
                complete_from_file(context.tree, model, signature)
            except ArtifactError as error:
                node = model.document.one("max_batch_size")
                yield E824.report_in(model, str(error), node, f"write what {path} has")
                continue
        if not model.inputs or not model.outputs:
            continue  # the backend completes them
        stated = _build_stated(model, signature)
        tensors = (*stated.signature.inputs, *stated.signature.outputs)
        open_shapes = {tensor.name for tensor in tensors if tensor.shape is None}
        for conflict in list_conflicts(stated, signature):
            if conflict.kind == "shape" and conflict.tensor in open_shapes:
                continue
            node = next((view.node for view in (*model.inputs, *model.outputs) if view.name == conflict.tensor), None)
            yield _RULES[conflict.kind].report_in(model, conflict.message, node, _advise(conflict, signature, path))


def _build_stated(model: ModelView, found: Signature) -> StatedModel:
    """Return what the configuration states, as far as it is certain that the backend compares it with this file.

    Open are the types and dims that the backend completes; the shapes of ragged inputs and of scalars, for which the
    backends have rules of their own; and those of controls and states. An output's -1 in the file may be a number once
    ONNX Runtime has inferred shapes, so that only the file's numbers are compared.
    """
    known = {tensor.name: tensor for tensor in (*found.inputs, *found.outputs)}
    is_batched = model.max_batch_size > 0

    def build(view: TensorView) -> TensorSpec:
        file = known.get(view.name, TensorSpec(view.name))
        dims = view.dims if view.reshape is None else view.reshape
        is_open = not view.dims or file.shape == () or view.node.flag("allow_ragged_batch")
        is_typed = view.data_type.startswith("TYPE_") and view.data_type != "TYPE_INVALID"
        return TensorSpec(
            view.name,
            view.data_type if is_typed else None,
            None if is_open else (-1, *dims) if is_batched else dims,
        )

    inputs, outputs = [build(view) for view in model.inputs], [build(view) for view in model.outputs]
    batching = model.document.message("sequence_batching")
    if batching is not None:
        states = batching.messages("state")
        inputs += [TensorSpec(control.text("name")) for control in batching.messages("control_input")]
        inputs += [TensorSpec(state.text("input_name")) for state in states]
        outputs += [TensorSpec(state.text("output_name")) for state in states]
    optional = frozenset(view.name for view in model.inputs if view.optional)
    return StatedModel(model.name, is_batched=is_batched, signature=Signature(inputs, outputs), optional=optional)


def _advise(conflict: Conflict, signature: Signature, path: str) -> str:
    found = {tensor.name: tensor for tensor in (*signature.inputs, *signature.outputs)}.get(conflict.tensor)
    if conflict.kind == "data_type" and found is not None:
        return f"set data_type to {found.data_type}, as {path} has it"
    if conflict.kind == "shape" and found is not None and found.shape is not None:
        return f"{path} has the shape {list(found.shape)}"
    names = ", ".join(tensor.name for tensor in signature.inputs)
    return f"the inputs of {path} are {names}" if conflict.kind == "count" else f"use a name of {path}"
