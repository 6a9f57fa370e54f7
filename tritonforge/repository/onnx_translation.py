"""TensorFlow to ONNX by tf2onnx, with the names that Triton uses and the same bytes each time.

tf2onnx is the ONNX project's own converter and the one that follows TensorFlow's releases; it takes frozen graphs and
functions, the two forms that a Triton repository has. It keeps layouts at the inputs and outputs (NHWC stays NHWC; it
adds transpositions inside), but names tensors as TensorFlow does (``input:0``), and open extents by a counter: both are
corrected here.
"""

from __future__ import annotations

import copy
import functools
import itertools
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tritonforge.errors import ArtifactError, MissingExtraError
from tritonforge.model_files.signature import GRAPHDEF, TensorSpec
from tritonforge.model_files.tensorflow_graph import DATA_TYPES
from tritonforge.repository.onnx_conversion import ConversionJob
from tritonforge.repository.tensorflow_model import Original

__all__ = ["ALTERNATIVE", "describe_converter", "narrow_shape", "rename_tensors", "translate"]


#: What to do instead, which every error names.
ALTERNATIVE = "keep TensorFlow in an image of your own: --tensorflow python-backend"

#: The limit of protobuf messages, and so of an ONNX file without external data.
_LARGEST = 2**31 - 1


def describe_converter() -> str:
    """Return the name and version of the converter."""
    return f"tf2onnx {metadata.version('tf2onnx')}"


def translate(job: ConversionJob, original: Original) -> bytes:
    """Return the ONNX file of a job's model.

    Raises:
        ArtifactError: ONNX cannot express the model; the sentence names the ops and the alternative.
        MissingExtraError: tf2onnx is not installed.
    """
    if original.unsupported_ops:
        raise _build_ops_error(job, original.unsupported_ops)
    try:
        import onnx
        import tf2onnx.graph
    except ImportError as error:
        raise MissingExtraError(error.name or "tf2onnx", extra="local") from error
    # tf2onnx keeps nodes in sets (`Graph.extract_sub_graph_nodes`), so their order, and which of two equal constants
    # stays, is that of memory addresses. Nodes that are numbered as they are met give the same file each time.
    numbers = itertools.count()
    tf2onnx.graph.Node.__hash__ = lambda node: node.__dict__.setdefault("tritonforge_number", next(numbers))
    _share_constants()
    try:
        model, names = _convert_graphdef(job, original) if job.kind == GRAPHDEF else _convert_savedmodel(job, original)
    except Exception as error:  # tf2onnx raises anything for a model that it cannot convert
        raise ArtifactError(
            f"{job.name}: tf2onnx cannot convert it: {_get_first_line(error)}; {ALTERNATIVE}"
        ) from error
    foreign = sorted({node.op_type for node in _list_nodes(model.graph) if not _is_onnx_node(node, job.opset)})
    if foreign:
        raise _build_ops_error(job, foreign)
    rename_tensors(model.graph, names)
    _state_tensors(model.graph, job, original)
    model.graph.doc_string = ""
    model.graph.name = job.model
    if model.ByteSize() > _LARGEST:
        raise ArtifactError(
            f"{job.name}: its ONNX file would have {model.ByteSize()} bytes, 2 GiB is all; {ALTERNATIVE}"
        )
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ArtifactError(
            f"{job.name}: tf2onnx made no valid model: {_get_first_line(error)}; {ALTERNATIVE}"
        ) from error
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def narrow_shape(stated: TensorSpec | None, found: TensorSpec, *, batched: bool) -> tuple[int, ...] | None:
    """Return the shape of a tensor with the extents that the configuration or the graph fixes; None for neither."""
    shapes = [tuple(spec.shape) for spec in (stated, found) if spec is not None and spec.shape is not None]
    if not shapes:
        return None
    if len({len(shape) for shape in shapes}) > 1:
        # Triton writes a tensor without dimensions as one of a single element; ragged inputs have ranks of their own.
        shapes = shapes[1:]
    shape = tuple(next((extent for extent in extents if extent != -1), -1) for extents in zip(*shapes, strict=True))
    return (-1, *shape[1:]) if batched and shape else shape


def _convert_graphdef(job: ConversionJob, original: Original) -> tuple[Any, dict[str, str]]:
    import tensorflow as tf
    from tf2onnx import convert

    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString(Path(job.path).read_bytes())
    stated = {tensor.name: tensor for tensor in job.inputs}
    # The converter needs ranks; a placeholder without a shape has that of the configuration.
    shapes = {
        f"{tensor.name}:0": list(stated[tensor.name].shape or ())
        for tensor in original.inputs
        if tensor.shape is None and stated[tensor.name].shape is not None
    }
    names = {f"{tensor.name}:0": tensor.name for tensor in (*original.inputs, *original.outputs)}
    model, _ = convert.from_graph_def(
        definition,
        name=job.model,
        input_names=[f"{tensor.name}:0" for tensor in original.inputs],
        output_names=[f"{tensor.name}:0" for tensor in original.outputs],
        opset=job.opset,
        shape_override=shapes or None,
    )
    return model, names


def _convert_savedmodel(job: ConversionJob, original: Original) -> tuple[Any, dict[str, str]]:
    """Convert through a function around the signature, whose arguments and results keep their names."""
    import tensorflow as tf
    from tf2onnx import convert

    loaded = tf.saved_model.load(job.path, tags=[job.tag])
    signature = loaded.signatures[original.signature]
    specs = signature.structured_input_signature[1]
    given = [tensor.name for tensor in original.inputs]
    arguments = [tf.TensorSpec(specs[name].shape, specs[name].dtype, f"input_{n}") for n, name in enumerate(given)]

    def serve(*tensors: Any) -> dict[str, Any]:
        results = signature(**dict(zip(given, tensors, strict=True)))
        return {f"output_{n}": tf.identity(results[tensor.name]) for n, tensor in enumerate(original.outputs)}

    # autograph off: `serve` is one call.
    function = tf.function(serve, input_signature=arguments, autograph=False)
    model, _ = convert.from_function(function, input_signature=arguments, opset=job.opset)
    names = {f"input_{n}": name for n, name in enumerate(given)}
    names.update({f"output_{n}": tensor.name for n, tensor in enumerate(original.outputs)})
    return model, names


def _build_ops_error(job: ConversionJob, ops: Any) -> ArtifactError:
    named = ", ".join(ops)
    some = f"the TensorFlow op {named}" if len(ops) == 1 else f"the TensorFlow ops {named}"
    return ArtifactError(f"{job.name}: ONNX has no equal of {some}; {ALTERNATIVE}")


def _is_onnx_node(node: Any, opset: int) -> bool:
    import onnx

    if node.domain in ("ai.onnx.ml",):
        return True
    return node.domain in ("", "ai.onnx") and bool(onnx.defs.has(node.op_type, max_inclusive_version=opset))


def _list_graphs(graph: Any) -> Iterator[Any]:
    """Yield a graph, and those in the attributes of its nodes: branches and bodies."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _list_graphs(inner)


def _list_nodes(graph: Any) -> Iterator[Any]:
    for inner in _list_graphs(graph):
        yield from inner.node


def rename_tensors(graph: Any, names: Mapping[str, str]) -> None:
    """Rename tensors in place by ``names`` (old -> new); another tensor that has a new name gets a free one."""
    taken = {name for node in _list_nodes(graph) for name in (*node.input, *node.output)}
    taken |= {tensor.name for one in _list_graphs(graph) for tensor in (*one.initializer, *one.input, *one.output)}
    renamed = dict(names)
    for new in names.values():
        if new in taken and new not in names:
            free = f"{new}/inner"
            while free in taken:
                free += "_"
            renamed[new] = free
    for one in _list_graphs(graph):
        for tensor in (*one.initializer, *one.input, *one.output, *one.value_info):
            tensor.name = renamed.get(tensor.name, tensor.name)
        for node in one.node:
            for field in (node.input, node.output):
                field[:] = [renamed.get(name, name) for name in field]


def _state_tensors(graph: Any, job: ConversionJob, original: Original) -> None:
    """State the graph's inputs and outputs in the original's order, with its types and shapes."""
    import onnx

    batched = job.max_batch_size > 0
    for field, tensors, configured, exact in (
        (graph.input, original.inputs, job.inputs, False),
        (graph.output, original.outputs, job.outputs, True),
    ):
        stated = {tensor.name: tensor for tensor in configured}
        types = {value.name: value.type.tensor_type.elem_type for value in field}
        del field[:]
        for tensor in tensors:
            shape = _choose_shape(stated.get(tensor.name), tensor, exact=exact, batched=batched)
            extents = None if shape is None else [None if extent == -1 else extent for extent in shape]
            # An input that nothing reads is not in the converter's graph; Triton requires all that are configured.
            number = types.get(tensor.name) or _find_onnx_type(tensor)
            field.append(onnx.helper.make_tensor_value_info(tensor.name, number, extents))


def _choose_shape(
    stated: TensorSpec | None, found: TensorSpec, *, exact: bool, batched: bool
) -> tuple[int, ...] | None:
    """Return the shape to write: of an output the configuration's, of an input the graph's own, which may be wider.

    ONNX Runtime's backend requires an output's shape to be the configured one, extent by extent
    (onnxruntime_backend src/onnxruntime_utils.cc `CompareDimsSupported`).
    """
    if found.shape == ():
        return ()
    first, second = (stated, found) if exact else (found, stated)
    shape = next((spec.shape for spec in (first, second) if spec is not None and spec.shape is not None), None)
    if shape is None:
        return None
    return (-1, *tuple(shape)[1:]) if batched and shape else tuple(shape)


def _find_onnx_type(tensor: TensorSpec) -> int:
    import onnx
    import tensorflow as tf

    numbers = {name: number for number, name in DATA_TYPES.items()}
    return int(onnx.helper.np_dtype_to_tensor_dtype(tf.as_dtype(numbers[str(tensor.data_type)]).as_numpy_dtype))


def _get_first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


def _share_constants() -> None:
    """Make tf2onnx share the tensors of constants between copies of a graph, in this process from now on.

    tf2onnx copies its graph before each of its 24 optimizations, to restore it where one fails, and writes every node's
    protobuf again after each. Both copy all constants, and the copies are in reference cycles: a model of 96 MB took
    7 GB, and half of the time. The tensors of constants are never changed in place, so that copies of a graph can share
    them, and the protobufs of constants are not written: the initializers of the ONNX file are the tensors themselves
    (`tf2onnx.graph.Graph.make_graph`).
    """
    from tf2onnx.graph import Graph, Node

    if "__deepcopy__" in vars(Graph):
        return

    def copy_graph(graph: Any, memo: dict[int, Any]) -> Any:
        for node in graph.get_nodes():
            if node.is_const() and "value" in node.attr:
                memo[id(node.attr["value"])] = node.attr["value"]
        made = memo[id(graph)] = Graph.__new__(Graph)
        vars(made).update(copy.deepcopy(vars(graph), memo))
        return made

    whole = Node.update_proto

    @functools.wraps(whole)
    def update_proto(node: Any, *arguments: Any, **options: Any) -> None:
        value = node.attr.pop("value", None) if node.is_const() else None
        whole(node, *arguments, **options)
        if value is not None:
            node.attr["value"] = value

    Graph.__deepcopy__ = copy_graph
    Node.update_proto = update_proto
