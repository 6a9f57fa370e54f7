"""The inputs and outputs of a model file on disk, read without running it.

A SavedModel and a DALI pipeline are read without their frameworks; an ONNX file requires the ``onnx`` package, and a
GraphDef TensorFlow, which infers the shapes of its outputs. Field numbers of ``saved_model.pb``:
tensorflow/core/protobuf/saved_model.proto, meta_graph.proto, framework/tensor_shape.proto.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError as ProtobufDecodeError

from tritonforge import datatypes
from tritonforge.errors import ArtifactError, MissingExtraError
from tritonforge.files import describe_error
from tritonforge.model_files import dali_pipeline
from tritonforge.model_files.signature import DALI, GRAPHDEF, KINDS, ONNX, SAVEDMODEL, Signature, TensorSpec
from tritonforge.triton.schema import OPTIONAL, REPEATED, Field, build_message_class

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["TENSORFLOW_TYPES", "introspect", "read_graph_tensor", "read_saved_model"]


#: ONNX's element type number -> config name. Source: onnx.proto `TensorProto.DataType`; the pairs that Triton carries:
#: onnxruntime_utils.cc `ConvertFromOnnxDataType`.
_ONNX_TYPES = {
    1: datatypes.TYPE_FP32, 2: datatypes.TYPE_UINT8, 3: datatypes.TYPE_INT8, 4: datatypes.TYPE_UINT16,
    5: datatypes.TYPE_INT16, 6: datatypes.TYPE_INT32, 7: datatypes.TYPE_INT64, 8: datatypes.TYPE_STRING,
    9: datatypes.TYPE_BOOL, 10: datatypes.TYPE_FP16, 11: datatypes.TYPE_FP64, 12: datatypes.TYPE_UINT32,
    13: datatypes.TYPE_UINT64, 16: datatypes.TYPE_BF16,
}  # fmt: skip


def introspect(
    path: Path, kind: str, *, outputs: Sequence[str] = (), tag: str = "serve", signature: str = "serving_default"
) -> Signature:
    """Return the inputs and outputs of the model file at ``path``.

    ``kind`` is one of `signature.KINDS`. ``outputs`` are the nodes of a GraphDef that are its outputs, which
    the file does not state. ``tag`` and ``signature`` choose in a SavedModel (Triton's parameters
    ``TF_GRAPH_TAG`` and ``TF_SIGNATURE_DEF``).

    Raises:
        ArtifactError: the file is missing, or is not of that kind.
        MissingExtraError: the package that reads it is not installed.
    """
    if kind not in KINDS:
        raise ArtifactError(f"{path}: inputs and outputs can be read from {', '.join(KINDS)}, not from {kind!r}")
    file = path / "saved_model.pb" if kind == SAVEDMODEL else path
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{file}: cannot read: {describe_error(error)}") from error
    try:
        if kind == SAVEDMODEL:
            return read_saved_model(data, tag=tag, signature=signature)
        if kind == DALI:
            return dali_pipeline.read_signature(data)
        if kind == ONNX:
            return _read_onnx(data)
        assert kind == GRAPHDEF
        return _read_graphdef(data, outputs)
    except ArtifactError as error:
        raise ArtifactError(f"{file}: {error}") from error


def _read_onnx(data: bytes) -> Signature:
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
    weights = {tensor.name for tensor in message.graph.initializer}
    return Signature(
        [_read_onnx_tensor(value) for value in message.graph.input if value.name not in weights],
        [_read_onnx_tensor(value) for value in message.graph.output],
    )


def _read_onnx_tensor(value: Any) -> TensorSpec:
    if value.type.WhichOneof("value") != "tensor_type":
        raise ArtifactError(f"{value.name!r} is a {value.type.WhichOneof('value')}; Triton carries tensors only")
    tensor = value.type.tensor_type
    if tensor.elem_type not in _ONNX_TYPES:
        raise ArtifactError(
            f"tensor {value.name!r} has ONNX's element type {tensor.elem_type}, which Triton does not have"
        )
    shape = None
    if tensor.HasField("shape"):
        shape = [dim.dim_value if dim.HasField("dim_value") and dim.dim_value > 0 else -1 for dim in tensor.shape.dim]
    return TensorSpec(value.name, _ONNX_TYPES[tensor.elem_type], shape)


def _read_graphdef(data: bytes, outputs: Sequence[str]) -> Signature:
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
            closest = _list_closest(name, list(nodes))
            raise ArtifactError(f"the graph has no node {name!r} for an output; the closest names are {closest}")
    placeholders = [operation for operation in nodes.values() if operation.type == "Placeholder"]
    return Signature(
        [_read_node(operation) for operation in placeholders],
        [_read_node(nodes[name]) for name in outputs],
        all_inputs=False,
    )


def _read_node(operation: Any) -> TensorSpec:
    if not operation.outputs:
        raise ArtifactError(f"node {operation.name!r} is a {operation.type}, which gives no tensor")
    return read_graph_tensor(operation.name, operation.outputs[0])


def read_graph_tensor(name: str, tensor: Any) -> TensorSpec:
    """Return the name, type and shape of a tensor of a TensorFlow graph; a reference type is its base type."""
    number = int(tensor.dtype.base_dtype.as_datatype_enum)
    if number not in TENSORFLOW_TYPES:
        raise ArtifactError(f"tensor {name!r} is {tensor.dtype.name}, which Triton cannot carry")
    shape = None if tensor.shape.rank is None else [-1 if dim is None else int(dim) for dim in tensor.shape.as_list()]
    return TensorSpec(name, TENSORFLOW_TYPES[number], shape)


def _list_closest(name: str, names: list[str]) -> str:
    import difflib

    return ", ".join(difflib.get_close_matches(name, names, n=3, cutoff=0.0))


#: TensorFlow's element type number -> config name. Source: tensorflow/core/framework/types.proto `DataType`; the pairs
#: that Triton carries: tensorflow_utils.cc `ConvertDataType`.
TENSORFLOW_TYPES: Final[Mapping[int, str]] = MappingProxyType({
    1: datatypes.TYPE_FP32, 2: datatypes.TYPE_FP64, 3: datatypes.TYPE_INT32, 4: datatypes.TYPE_UINT8,
    5: datatypes.TYPE_INT16, 6: datatypes.TYPE_INT8, 7: datatypes.TYPE_STRING, 9: datatypes.TYPE_INT64,
    10: datatypes.TYPE_BOOL, 14: datatypes.TYPE_BF16, 17: datatypes.TYPE_UINT16, 19: datatypes.TYPE_FP16,
    22: datatypes.TYPE_UINT32, 23: datatypes.TYPE_UINT64,
})  # fmt: skip

_MESSAGES: Final[Mapping[str, tuple[Field, ...]]] = MappingProxyType(
    {
        "Dim": ((1, OPTIONAL, "int64", "size", None),),
        "TensorShape": ((2, REPEATED, "Dim", "dim", None), (3, OPTIONAL, "bool", "unknown_rank", None)),
        "TensorInfo": (
            (1, OPTIONAL, "string", "name", None),
            (2, OPTIONAL, "int32", "dtype", None),
            (3, OPTIONAL, "TensorShape", "tensor_shape", None),
        ),
        "TensorEntry": ((1, OPTIONAL, "string", "key", None), (2, OPTIONAL, "TensorInfo", "value", None)),
        "SignatureDef": ((1, REPEATED, "TensorEntry", "inputs", None), (2, REPEATED, "TensorEntry", "outputs", None)),
        "SignatureEntry": ((1, OPTIONAL, "string", "key", None), (2, OPTIONAL, "SignatureDef", "value", None)),
        "MetaInfo": ((4, REPEATED, "string", "tags", None),),
        "MetaGraph": (
            (1, OPTIONAL, "MetaInfo", "meta_info_def", None),
            (5, REPEATED, "SignatureEntry", "signature_def", None),
        ),
        "SavedModel": ((2, REPEATED, "MetaGraph", "meta_graphs", None),),
    }
)


def read_saved_model(data: bytes, *, tag: str = "serve", signature: str = "serving_default") -> Signature:
    """Return the inputs and outputs of one signature in the bytes of a ``saved_model.pb``, sorted by name.

    Raises:
        ArtifactError: the bytes are not a SavedModel, it has no such tag or signature, or a type is unknown to Triton.
    """
    message = _build_saved_model_class()()
    try:
        message.ParseFromString(data)
    except ProtobufDecodeError as error:
        raise ArtifactError(f"this is not a saved_model.pb: {error}") from error
    graphs = {frozenset(graph.meta_info_def.tags): graph for graph in message.meta_graphs}
    if not graphs:
        raise ArtifactError("this is not a saved_model.pb: it has no graphs")
    graph = graphs.get(frozenset({tag}))
    if graph is None:
        known = " and ".join(repr(sorted(map(str, tags))) for tags in graphs)
        raise ArtifactError(f"the SavedModel has no graph tagged {tag!r}; its graphs are tagged {known}")
    signatures = {entry.key: entry.value for entry in graph.signature_def}
    if signature not in signatures:
        known = ", ".join(sorted(map(str, signatures))) or "none"
        raise ArtifactError(f"the SavedModel has no signature {signature!r}; it has {known}")
    chosen = signatures[signature]
    return Signature(_read_entries(chosen.inputs), _read_entries(chosen.outputs))


def _read_entries(entries: Any) -> list[TensorSpec]:
    return [_read_entry(entry.key, entry.value) for entry in sorted(entries, key=lambda entry: str(entry.key))]


def _read_entry(name: str, info: Any) -> TensorSpec:
    if info.dtype not in TENSORFLOW_TYPES:
        raise ArtifactError(f"tensor {name!r} has TensorFlow's element type {info.dtype}, which Triton cannot carry")
    shape = None if info.tensor_shape.unknown_rank else [int(dim.size) for dim in info.tensor_shape.dim]
    return TensorSpec(name, TENSORFLOW_TYPES[info.dtype], shape)


@lru_cache(maxsize=1)
def _build_saved_model_class() -> Any:
    return build_message_class("tensorflow_saved_model", _MESSAGES, "SavedModel")
