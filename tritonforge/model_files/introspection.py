"""The inputs and outputs of a model file on disk, read without running it.

A SavedModel and a DALI pipeline are read without their frameworks; an ONNX file needs the ``onnx`` package, and a
GraphDef TensorFlow, which infers the shapes of its outputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tritonforge import datatypes
from tritonforge.errors import ArtifactError, MissingExtraError
from tritonforge.model_files import dali_pipeline, saved_model
from tritonforge.model_files.signature import DALI, GRAPHDEF, KINDS, ONNX, SAVEDMODEL, Signature, TensorSpec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["introspect"]

#: ONNX's element type number -> config name. Source: onnx.proto `TensorProto.DataType`; the pairs that Triton carries:
#: onnxruntime_utils.cc `ConvertFromOnnxDataType`.
_ONNX_TYPES = {
    1: datatypes.TYPE_FP32,
    2: datatypes.TYPE_UINT8,
    3: datatypes.TYPE_INT8,
    4: datatypes.TYPE_UINT16,
    5: datatypes.TYPE_INT16,
    6: datatypes.TYPE_INT32,
    7: datatypes.TYPE_INT64,
    8: datatypes.TYPE_STRING,
    9: datatypes.TYPE_BOOL,
    10: datatypes.TYPE_FP16,
    11: datatypes.TYPE_FP64,
    12: datatypes.TYPE_UINT32,
    13: datatypes.TYPE_UINT64,
    16: datatypes.TYPE_BF16,
}


def introspect(
    path: Path,
    kind: str,
    *,
    outputs: Sequence[str] = (),
    tag: str = "serve",
    signature: str = "serving_default",
) -> Signature:
    """What the model file at ``path`` takes and gives.

    ``kind`` is one of `signature.KINDS`. ``outputs`` are the node names to look at in a GraphDef, which does not say
    which of its nodes are outputs. ``tag`` and ``signature`` choose in a SavedModel (Triton's parameters
    ``TF_GRAPH_TAG`` and ``TF_SIGNATURE_DEF``).

    Raises:
        ArtifactError: there is no such file, or it is not of that kind.
        MissingExtraError: the package that reads it is not installed.
    """
    if kind not in KINDS:
        raise ArtifactError(f"{path}: inputs and outputs can be read from {', '.join(KINDS)}, not from {kind!r}")
    file = path / "saved_model.pb" if kind == SAVEDMODEL else path
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{file}: cannot be read: {error.strerror or error}") from error
    try:
        if kind == SAVEDMODEL:
            return saved_model.read(data, tag=tag, signature=signature)
        if kind == DALI:
            return dali_pipeline.signature(data)
        if kind == ONNX:
            return _onnx(data)
        assert kind == GRAPHDEF
        return _graphdef(data, outputs)
    except ArtifactError as error:
        raise ArtifactError(f"{file}: {error}") from error


def _onnx(data: bytes) -> Signature:
    try:
        import onnx
        from google.protobuf.message import DecodeError as ProtobufDecodeError
    except ImportError as error:
        raise MissingExtraError("onnx", extra="local") from error
    message = onnx.ModelProto()
    try:
        message.ParseFromString(data)
    except ProtobufDecodeError as error:
        raise ArtifactError(f"this is not an ONNX model: {error}") from error
    if not message.graph.output:
        raise ArtifactError("this is not an ONNX model: its graph has no outputs")
    # Before IR version 4 each weight was listed as an input too.
    weights = {each.name for each in message.graph.initializer}
    return Signature(
        [_onnx_tensor(each) for each in message.graph.input if each.name not in weights],
        [_onnx_tensor(each) for each in message.graph.output],
    )


def _onnx_tensor(value: Any) -> TensorSpec:
    if value.type.WhichOneof("value") != "tensor_type":
        raise ArtifactError(f"{value.name!r} is a {value.type.WhichOneof('value')}; Triton carries tensors only")
    tensor = value.type.tensor_type
    if tensor.elem_type not in _ONNX_TYPES:
        raise ArtifactError(f"tensor {value.name!r} has ONNX's element type {tensor.elem_type}, which Triton has not")
    shape = None
    if tensor.HasField("shape"):
        shape = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else -1 for dim in tensor.shape.dim]
    return TensorSpec(value.name, _ONNX_TYPES[tensor.elem_type], shape)


def _graphdef(data: bytes, outputs: Sequence[str]) -> Signature:
    try:
        import tensorflow as tf
        from google.protobuf.message import DecodeError as ProtobufDecodeError
    except ImportError as error:
        raise MissingExtraError("tensorflow", extra="local") from error
    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(data)
    except ProtobufDecodeError as error:
        raise ArtifactError(f"this is not a GraphDef: {error}") from error
    if not definition.node:
        raise ArtifactError("this is not a GraphDef: it has no nodes")
    graph = tf.Graph()
    try:
        with graph.as_default():
            tf.import_graph_def(definition, name="")
    except (ValueError, TypeError, tf.errors.OpError) as error:
        raise ArtifactError(f"TensorFlow cannot import this graph: {str(error).splitlines()[0]}") from error
    nodes = {operation.name: operation for operation in graph.get_operations()}
    for name in outputs:
        if name not in nodes:
            closest = _closest(name, list(nodes))
            raise ArtifactError(f"the graph has no node {name!r} for an output; the closest names are {closest}")
    placeholders = [operation for operation in nodes.values() if operation.type == "Placeholder"]
    return Signature(
        [_graph_tensor(operation) for operation in placeholders],
        [_graph_tensor(nodes[name]) for name in outputs],
        all_inputs=False,
    )


def _graph_tensor(operation: Any) -> TensorSpec:
    if not operation.outputs:
        raise ArtifactError(f"node {operation.name!r} is a {operation.type}, which gives no tensor")
    tensor = operation.outputs[0]
    number = int(tensor.dtype.as_datatype_enum)
    if number not in saved_model.DATA_TYPES:
        raise ArtifactError(f"tensor {operation.name!r} is {tensor.dtype.name}, which Triton cannot carry")
    shape = None if tensor.shape.rank is None else [-1 if dim is None else int(dim) for dim in tensor.shape.as_list()]
    return TensorSpec(operation.name, saved_model.DATA_TYPES[number], shape)


def _closest(name: str, names: list[str]) -> str:
    import difflib

    return ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.0))
