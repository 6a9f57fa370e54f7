"""The signatures of a TensorFlow SavedModel, read from its ``saved_model.pb`` without TensorFlow. No I/O here.

Field numbers: tensorflow/core/protobuf/saved_model.proto, meta_graph.proto, framework/tensor_shape.proto.
"""

from __future__ import annotations

from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError as ProtobufDecodeError

from tritonforge import datatypes
from tritonforge.errors import ArtifactError
from tritonforge.model_files.signature import Signature, TensorSpec
from tritonforge.triton.schema import OPTIONAL, REPEATED, Field, build_message_class

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DATA_TYPES", "read"]

#: TensorFlow's element type number -> config name. Source: tensorflow/core/framework/types.proto `DataType`; the pairs
#: that Triton carries: tensorflow_utils.cc `ConvertDataType`.
DATA_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        1: datatypes.TYPE_FP32,
        2: datatypes.TYPE_FP64,
        3: datatypes.TYPE_INT32,
        4: datatypes.TYPE_UINT8,
        5: datatypes.TYPE_INT16,
        6: datatypes.TYPE_INT8,
        7: datatypes.TYPE_STRING,
        9: datatypes.TYPE_INT64,
        10: datatypes.TYPE_BOOL,
        14: datatypes.TYPE_BF16,
        17: datatypes.TYPE_UINT16,
        19: datatypes.TYPE_FP16,
        22: datatypes.TYPE_UINT32,
        23: datatypes.TYPE_UINT64,
    }
)

_MESSAGES: Final[Mapping[str, tuple[Field, ...]]] = MappingProxyType(
    {
        "Dim": ((1, OPTIONAL, "int64", "size", None),),
        "TensorShape": (
            (2, REPEATED, "Dim", "dim", None),
            (3, OPTIONAL, "bool", "unknown_rank", None),
        ),
        "TensorInfo": (
            (1, OPTIONAL, "string", "name", None),
            (2, OPTIONAL, "int32", "dtype", None),
            (3, OPTIONAL, "TensorShape", "tensor_shape", None),
        ),
        "TensorEntry": (
            (1, OPTIONAL, "string", "key", None),
            (2, OPTIONAL, "TensorInfo", "value", None),
        ),
        "SignatureDef": (
            (1, REPEATED, "TensorEntry", "inputs", None),
            (2, REPEATED, "TensorEntry", "outputs", None),
        ),
        "SignatureEntry": (
            (1, OPTIONAL, "string", "key", None),
            (2, OPTIONAL, "SignatureDef", "value", None),
        ),
        "MetaInfo": ((4, REPEATED, "string", "tags", None),),
        "MetaGraph": (
            (1, OPTIONAL, "MetaInfo", "meta_info_def", None),
            (5, REPEATED, "SignatureEntry", "signature_def", None),
        ),
        "SavedModel": ((2, REPEATED, "MetaGraph", "meta_graphs", None),),
    }
)


def read(data: bytes, *, tag: str = "serve", signature: str = "serving_default") -> Signature:
    """The inputs and outputs of one signature in the bytes of a ``saved_model.pb``, sorted by name.

    Raises:
        ArtifactError: the bytes are no SavedModel, or it has not that tag, that signature, or a type Triton carries.
    """
    message = _class()()
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
    return Signature(_tensors(chosen.inputs), _tensors(chosen.outputs))


def _tensors(entries: Any) -> list[TensorSpec]:
    return [_tensor(entry.key, entry.value) for entry in sorted(entries, key=lambda entry: str(entry.key))]


def _tensor(name: str, info: Any) -> TensorSpec:
    if info.dtype not in DATA_TYPES:
        raise ArtifactError(f"tensor {name!r} has TensorFlow's element type {info.dtype}, which Triton cannot carry")
    shape = None if info.tensor_shape.unknown_rank else [int(dim.size) for dim in info.tensor_shape.dim]
    return TensorSpec(name, DATA_TYPES[info.dtype], shape)


@lru_cache(maxsize=1)
def _class() -> Any:
    return build_message_class("tensorflow_saved_model", _MESSAGES, "SavedModel")
