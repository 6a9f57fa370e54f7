"""TensorFlow to ONNX by tf2onnx, with the names that Triton uses and the same bytes each time.

tf2onnx is the ONNX project's own converter and the one that follows TensorFlow's releases; it takes frozen graphs and
functions, the two forms that a Triton repository holds. It leaves layouts as they are at the inputs and outputs (NHWC
stays NHWC; it puts transpositions inside), but names tensors as TensorFlow does (``input:0``), and open extents by a
counter: both are set right here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from tritonforge.errors import ArtifactError, MissingExtraError
from tritonforge.model_files import saved_model
from tritonforge.model_files.signature import GRAPHDEF, TensorSpec
from tritonforge.repository.conversion import weights
from tritonforge.repository.conversion.job import Job
from tritonforge.repository.conversion.original import Original

__all__ = ["OTHERWISE", "converter", "narrowed", "rename", "translated"]

#: The other way out, which every refusal names.
OTHERWISE = "keep TensorFlow in an image of your own: --tensorflow python-backend"

#: protobuf holds no message of 2 GiB or more, and neither does an ONNX file without external data.
_LARGEST = 2**31 - 1


def converter() -> str:
    """The converter and its version."""
    return f"tf2onnx {metadata.version('tf2onnx')}"


def translated(job: Job, original: Original) -> bytes:
    """The ONNX file of a job's model.

    Raises:
        ArtifactError: ONNX has no equal of what the model does; the sentence names the ops and the other way out.
        MissingExtraError: tf2onnx is not installed.
    """
    if original.closed:
        raise _no_equal(job, original.closed)
    try:
        import onnx
        import tf2onnx.graph
    except ImportError as error:
        raise MissingExtraError(error.name or "tf2onnx", extra="local") from error
    # tf2onnx keeps nodes in sets (`Graph.extract_sub_graph_nodes`), so their order, and which of two equal constants
    # stays, is that of memory addresses. Nodes that are numbered as they are met give the same file each time.
    numbers = itertools.count()
    tf2onnx.graph.Node.__hash__ = lambda node: node.__dict__.setdefault("tritonforge_number", next(numbers))
    weights.share()
    try:
        model, names = _from_graphdef(job, original) if job.kind == GRAPHDEF else _from_savedmodel(job, original)
    except Exception as error:  # tf2onnx raises what it comes across; each is a model that it cannot convert
        raise ArtifactError(f"{job.name}: tf2onnx cannot convert it: {_first_line(error)}; {OTHERWISE}") from error
    foreign = sorted({node.op_type for node in _nodes(model.graph) if not _is_onnx(node, job.opset)})
    if foreign:
        raise _no_equal(job, foreign)
    rename(model.graph, names)
    _describe(model.graph, job, original)
    model.graph.doc_string = ""
    model.graph.name = job.model
    if model.ByteSize() > _LARGEST:
        raise ArtifactError(f"{job.name}: its ONNX file would have {model.ByteSize()} bytes, 2 GiB is all; {OTHERWISE}")
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as error:
        raise ArtifactError(f"{job.name}: tf2onnx made no valid model: {_first_line(error)}; {OTHERWISE}") from error
    data: bytes = model.SerializeToString(deterministic=True)
    return data


def narrowed(stated: TensorSpec | None, found: TensorSpec, *, batched: bool) -> tuple[int, ...] | None:
    """The whole shape of a tensor as precise as the configuration and the graph together have it; None for neither."""
    shapes = [tuple(each.shape) for each in (stated, found) if each is not None and each.shape is not None]
    if not shapes:
        return None
    if len({len(shape) for shape in shapes}) > 1:
        # Triton writes a tensor without dimensions as one of a single element; ragged inputs have ranks of their own.
        shapes = shapes[1:]
    shape = tuple(next((extent for extent in extents if extent != -1), -1) for extents in zip(*shapes, strict=True))
    return (-1, *shape[1:]) if batched and shape else shape


def _from_graphdef(job: Job, original: Original) -> tuple[Any, dict[str, str]]:
    import tensorflow as tf
    from tf2onnx import convert

    definition = tf.compat.v1.GraphDef()
    definition.ParseFromString(Path(job.path).read_bytes())
    stated = {each.name: each for each in job.inputs}
    # The converter needs ranks; a placeholder without a shape has that of the configuration.
    shapes = {
        f"{each.name}:0": list(stated[each.name].shape or ())
        for each in original.inputs
        if each.shape is None and stated[each.name].shape is not None
    }
    names = {f"{each.name}:0": each.name for each in (*original.inputs, *original.outputs)}
    model, _ = convert.from_graph_def(
        definition,
        name=job.model,
        input_names=[f"{each.name}:0" for each in original.inputs],
        output_names=[f"{each.name}:0" for each in original.outputs],
        opset=job.opset,
        shape_override=shapes or None,
    )
    return model, names


def _from_savedmodel(job: Job, original: Original) -> tuple[Any, dict[str, str]]:
    """Through a function of our own around the signature, whose arguments and results have names that stay."""
    import tensorflow as tf
    from tf2onnx import convert

    loaded = tf.saved_model.load(job.path, tags=[job.tag])
    signature = loaded.signatures[original.signature]
    specs = signature.structured_input_signature[1]
    given = [each.name for each in original.inputs]
    arguments = [tf.TensorSpec(specs[name].shape, specs[name].dtype, f"input_{n}") for n, name in enumerate(given)]

    def serve(*tensors: Any) -> dict[str, Any]:
        results = signature(**dict(zip(given, tensors, strict=True)))
        return {f"output_{n}": tf.identity(results[each.name]) for n, each in enumerate(original.outputs)}

    # autograph off: there is nothing in `serve` to turn into a graph but one call.
    function = tf.function(serve, input_signature=arguments, autograph=False)
    model, _ = convert.from_function(function, input_signature=arguments, opset=job.opset)
    names = {f"input_{n}": name for n, name in enumerate(given)}
    names.update({f"output_{n}": each.name for n, each in enumerate(original.outputs)})
    return model, names


def _no_equal(job: Job, ops: Any) -> ArtifactError:
    named = ", ".join(ops)
    some = f"the TensorFlow op {named}" if len(ops) == 1 else f"the TensorFlow ops {named}"
    return ArtifactError(f"{job.name}: ONNX has no equal of {some}; {OTHERWISE}")


def _is_onnx(node: Any, opset: int) -> bool:
    import onnx

    if node.domain in ("ai.onnx.ml",):
        return True
    return node.domain in ("", "ai.onnx") and bool(onnx.defs.has(node.op_type, max_inclusive_version=opset))


def _graphs(graph: Any) -> Iterator[Any]:
    """A graph, and those in the attributes of its nodes: branches and bodies."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for each in (*([attribute.g] if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _graphs(each)


def _nodes(graph: Any) -> Iterator[Any]:
    for each in _graphs(graph):
        yield from each.node


def rename(graph: Any, names: Mapping[str, str]) -> None:
    """Give tensors the names ``names`` (old -> new) in place; an inner tensor that has such a name makes room."""
    taken = {name for node in _nodes(graph) for name in (*node.input, *node.output)}
    taken |= {each.name for one in _graphs(graph) for each in (*one.initializer, *one.input, *one.output)}
    renamed = dict(names)
    for new in names.values():
        if new in taken and new not in names:
            room = f"{new}/inner"
            while room in taken:
                room += "_"
            renamed[new] = room
    for one in _graphs(graph):
        for each in (*one.initializer, *one.input, *one.output, *one.value_info):
            each.name = renamed.get(each.name, each.name)
        for node in one.node:
            for field in (node.input, node.output):
                field[:] = [renamed.get(name, name) for name in field]


def _describe(graph: Any, job: Job, original: Original) -> None:
    """State the graph's inputs and outputs in the original's order, with its types and shapes."""
    import onnx

    batched = job.max_batch_size > 0
    for field, found, stated, exact in (
        (graph.input, original.inputs, {each.name: each for each in job.inputs}, False),
        (graph.output, original.outputs, {each.name: each for each in job.outputs}, True),
    ):
        there = {each.name: each.type.tensor_type.elem_type for each in field}
        del field[:]
        for each in found:
            shape = _shape(stated.get(each.name), each, exact=exact, batched=batched)
            extents = None if shape is None else [None if extent == -1 else extent for extent in shape]
            # An input that nothing reads is not in the converter's graph; Triton wants every one that is configured.
            number = there.get(each.name) or _number(each)
            field.append(onnx.helper.make_tensor_value_info(each.name, number, extents))


def _shape(stated: TensorSpec | None, found: TensorSpec, *, exact: bool, batched: bool) -> tuple[int, ...] | None:
    """The shape to write: of an output the configuration's, of an input the graph's own, which may take more.

    ONNX Runtime's backend wants an output's shape to be what is configured, extent by extent
    (onnxruntime_backend src/onnxruntime_utils.cc `CompareDimsSupported`).
    """
    if found.shape == ():
        return ()
    first, second = (stated, found) if exact else (found, stated)
    shape = next((each.shape for each in (first, second) if each is not None and each.shape is not None), None)
    if shape is None:
        return None
    return (-1, *tuple(shape)[1:]) if batched and shape else tuple(shape)


def _number(tensor: TensorSpec) -> int:
    import onnx
    import tensorflow as tf

    numbers = {name: number for number, name in saved_model.DATA_TYPES.items()}
    return int(onnx.helper.np_dtype_to_tensor_dtype(tf.as_dtype(numbers[str(tensor.data_type)]).as_numpy_dtype))


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
