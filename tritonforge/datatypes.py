"""The element types of Triton tensors: one row for each, with its config, wire and numpy names. No I/O.

The names are ``TYPE_FP32`` in config files (`DataType` in Triton's model_config.proto), ``FP32`` on the KServe v2 wire,
``float32`` in numpy. numpy is imported only for an array type, so that configurations can be read without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

if TYPE_CHECKING:
    import numpy as np

__all__ = ["BY_CONFIG", "BY_WIRE", "DATATYPES", "TYPE_BF16", "TYPE_BOOL", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64",
           "TYPE_INT8", "TYPE_INT16", "TYPE_INT32", "TYPE_INT64", "TYPE_STRING", "TYPE_UINT8", "TYPE_UINT16",
           "TYPE_UINT32", "TYPE_UINT64", "Datatype", "Kind", "describe_unknown", "find_config_name",
           "from_numpy"]  # fmt: skip

TYPE_BOOL: Final = "TYPE_BOOL"
TYPE_UINT8: Final = "TYPE_UINT8"
TYPE_UINT16: Final = "TYPE_UINT16"
TYPE_UINT32: Final = "TYPE_UINT32"
TYPE_UINT64: Final = "TYPE_UINT64"
TYPE_INT8: Final = "TYPE_INT8"
TYPE_INT16: Final = "TYPE_INT16"
TYPE_INT32: Final = "TYPE_INT32"
TYPE_INT64: Final = "TYPE_INT64"
TYPE_FP16: Final = "TYPE_FP16"
TYPE_FP32: Final = "TYPE_FP32"
TYPE_FP64: Final = "TYPE_FP64"
TYPE_STRING: Final = "TYPE_STRING"
TYPE_BF16: Final = "TYPE_BF16"


Kind: TypeAlias = Literal["boolean", "integer", "float", "bytes"]


@dataclass(frozen=True, slots=True)
class Datatype:
    """One element type.

    ``config`` is its name in config.pbtxt, ``wire`` its name in KServe v2 requests, ``size`` the bytes of one element
    on the wire (None for BYTES, whose elements carry their own length), ``numpy`` the little-endian numpy type string.
    ``kind`` is what an element is; ``has_json`` is False for the datatypes that Triton takes in binary form only
    (http_server.cc, "data via JSON is not supported").
    """

    config: str
    wire: str
    size: int | None
    numpy: str
    kind: Kind
    has_json: bool = True

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type of such arrays: little-endian; ``ml_dtypes.bfloat16`` for BF16, object for BYTES."""
        import numpy as np

        if self.numpy == "bfloat16":
            import ml_dtypes

            return np.dtype(ml_dtypes.bfloat16)
        return np.dtype(self.numpy)


#: Source: model_config.proto `DataType`; sizes: KServe v2 "Tensor Data Types" and Triton's extension_binary_data.md.
DATATYPES: Final = (
    Datatype(TYPE_BOOL, "BOOL", 1, "|b1", "boolean"),
    Datatype(TYPE_UINT8, "UINT8", 1, "|u1", "integer"),
    Datatype(TYPE_UINT16, "UINT16", 2, "<u2", "integer"),
    Datatype(TYPE_UINT32, "UINT32", 4, "<u4", "integer"),
    Datatype(TYPE_UINT64, "UINT64", 8, "<u8", "integer"),
    Datatype(TYPE_INT8, "INT8", 1, "|i1", "integer"),
    Datatype(TYPE_INT16, "INT16", 2, "<i2", "integer"),
    Datatype(TYPE_INT32, "INT32", 4, "<i4", "integer"),
    Datatype(TYPE_INT64, "INT64", 8, "<i8", "integer"),
    Datatype(TYPE_FP16, "FP16", 2, "<f2", "float", has_json=False),
    Datatype(TYPE_FP32, "FP32", 4, "<f4", "float"),
    Datatype(TYPE_FP64, "FP64", 8, "<f8", "float"),
    Datatype(TYPE_STRING, "BYTES", None, "|O", "bytes"),
    Datatype(TYPE_BF16, "BF16", 2, "bfloat16", "float", has_json=False),
)

BY_CONFIG: Final[Mapping[str, Datatype]] = MappingProxyType({row.config: row for row in DATATYPES})
BY_WIRE: Final[Mapping[str, Datatype]] = MappingProxyType({row.wire: row for row in DATATYPES})


def from_numpy(dtype: np.dtype[Any]) -> Datatype | None:
    """Return the datatype of arrays of a numpy type, in any byte order; None if Triton has none.

    Text and byte strings (kinds ``S`` and ``U``) and objects are BYTES.
    """
    if dtype.kind in "OSU":
        return BY_WIRE["BYTES"]
    if dtype.name == "bfloat16":
        return BY_WIRE["BF16"]
    for datatype in DATATYPES:
        if datatype.size is not None and datatype.wire != "BF16" and datatype.dtype == dtype.newbyteorder("<"):
            return datatype
    return None


#: Names of element types in numpy, ONNX, KServe and C.
_OTHER_NAMES: Final = {
    "BFLOAT16": TYPE_BF16, "BOOLEAN": TYPE_BOOL, "BYTE": TYPE_UINT8, "BYTES": TYPE_STRING, "DOUBLE": TYPE_FP64,
    "FLOAT": TYPE_FP32, "FLOAT16": TYPE_FP16, "FLOAT32": TYPE_FP32, "FLOAT64": TYPE_FP64, "HALF": TYPE_FP16,
    "INT": TYPE_INT64, "LONG": TYPE_INT64, "OBJECT": TYPE_STRING, "SHORT": TYPE_INT16, "STR": TYPE_STRING,
}  # fmt: skip


def find_config_name(text: str) -> str | None:
    """Return the config name that another name of an element type means; None for other texts.

    >>> find_config_name("float32"), find_config_name("TYPE_INT8"), find_config_name("complex")
    ('TYPE_FP32', 'TYPE_INT8', None)
    """
    name = text.upper().removeprefix("TYPE_")
    name = _OTHER_NAMES.get(name, f"TYPE_{name}")
    return name if name in BY_CONFIG else None


def describe_unknown(data_type: str) -> str:
    """Return the sentence on a data type that is not one of Triton's, with a suggestion."""
    meant = find_config_name(data_type)
    advice = f" (expected {', '.join(BY_CONFIG)})" if meant is None else f". Did you mean {meant}?"
    return f"data_type is {data_type!r}{advice}"
