"""A predict request of TensorFlow Serving's REST API: JSON to arrays, by its rules and with its messages. No I/O here.

Source: tensorflow/serving tensorflow_serving/util/json_tensor.cc (`FillPredictRequestFromJson` and what it calls) and
g3doc/api_rest.md. Errors of the JSON itself have the message of Python's reader.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

import numpy as np

__all__ = ["INVALID_ARGUMENT", "NOT_FOUND", "TYPES", "UNIMPLEMENTED", "UNKNOWN", "Arrays", "Format", "StatusError",
           "get_code_name", "is_binary", "parse_request", "read_arrays", "read_signature_name", "shorten"]  # fmt: skip


#: Codes of absl::Status, as numbers (google/rpc/code.proto).
UNKNOWN: Final = 2
INVALID_ARGUMENT: Final = 3
NOT_FOUND: Final = 5
UNIMPLEMENTED: Final = 12

#: Code: its name, and the HTTP status of the answer (tensorflow_serving/model_servers/http_server.cc
#: `ToHTTPStatusCode`).
_CODES: Final = MappingProxyType(
    {
        0: ("OK", 200),
        1: ("CANCELLED", 499),
        UNKNOWN: ("UNKNOWN", 500),
        INVALID_ARGUMENT: ("INVALID_ARGUMENT", 400),
        4: ("DEADLINE_EXCEEDED", 504),
        NOT_FOUND: ("NOT_FOUND", 404),
        6: ("ALREADY_EXISTS", 409),
        7: ("PERMISSION_DENIED", 403),
        8: ("RESOURCE_EXHAUSTED", 429),
        9: ("FAILED_PRECONDITION", 400),
        10: ("ABORTED", 409),
        11: ("OUT_OF_RANGE", 400),
        UNIMPLEMENTED: ("UNIMPLEMENTED", 501),
        13: ("INTERNAL", 500),
        14: ("UNAVAILABLE", 503),
        15: ("DATA_LOSS", 500),
        16: ("UNAUTHENTICATED", 401),
    }
)


class StatusError(Exception):  # an answer of the API, not a failure of this program
    """An error that is answered as ``{"error": message}``; ``code`` is absl's."""

    def __init__(self, message: str, *, code: int = INVALID_ARGUMENT) -> None:
        super().__init__(message)
        self.code = code

    @property
    def status(self) -> int:
        """The HTTP status of the answer."""
        return _CODES.get(self.code, _CODES[UNKNOWN])[1]


def get_code_name(code: int) -> str:
    """Return the name of a code."""
    return _CODES.get(code, _CODES[UNKNOWN])[0]


Arrays: TypeAlias = "dict[str, np.ndarray[Any, Any]]"
Format: TypeAlias = Literal["row", "columnar"]

#: TensorFlow's name of each element type that the API carries, and numpy's.
TYPES: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "float": np.float32,
        "double": np.float64,
        "int32": np.int32,
        "int16": np.int16,
        "int8": np.int8,
        "uint8": np.uint8,
        "int64": np.int64,
        "uint32": np.uint32,
        "uint64": np.uint64,
        "bool": np.bool_,
        "string": np.object_,
    }
)

#: The range of JSON integers that each type takes; narrow types are held to that of int32 and then cut to size.
_RANGES: Final[Mapping[str, tuple[int, int]]] = MappingProxyType(
    {
        **dict.fromkeys(("int32", "int16", "int8", "uint8"), (-(2**31), 2**31 - 1)),
        "int64": (-(2**63), 2**63 - 1),
        "uint32": (0, 2**32 - 1),
        "uint64": (0, 2**64 - 1),
    }
)
_FLOATS: Final = ("float", "double")
_SHOWN: Final = 256

#: Dimensions that numpy's arrays have at most; one more is that of the rows.
_MOST_DIMENSIONS: Final = 31

#: An escape that is half of a character beyond U+FFFF; the other half may be missing.
_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def parse_request(body: bytes) -> dict[str, Any]:
    """Return the JSON object of a request; what follows it is ignored, as by TensorFlow Serving."""
    text = body.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").lstrip()
    if not text:
        raise StatusError("JSON Parse error: The document is empty")
    try:
        document, _ = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        raise StatusError(f"JSON Parse error: {error.msg} at offset: {error.pos}") from error
    except (RecursionError, ValueError) as error:  # ValueError: a number of more digits than Python reads
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else "Number too big to be stored"
        raise StatusError(f"JSON Parse error: {reason}") from error
    if _SURROGATE.search(text):
        try:
            json.dumps(document, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise StatusError("JSON Parse error: The surrogate pair in string is invalid.") from error
    if not isinstance(document, dict):
        raise StatusError(f"JSON Value: {shorten(document)} Is not object")
    return document


def read_signature_name(document: Mapping[str, Any]) -> str:
    """Return the signature that a request names; "" where it names none."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise StatusError(
            f"JSON Value: {shorten(document)} not formatted correctly. 'signature_name' key must be a string value."
        )
    return name


def read_arrays(document: Mapping[str, Any], types: Mapping[str, str], *, plain: bool) -> tuple[Arrays, Format]:
    """Read the input arrays of a request in row or columnar format; ``types`` are those of the signature's inputs.

    ``plain`` is True if the request has neither true nor false in its text, so that numpy may read numbers at once.

    Raises:
        StatusError: the request is invalid; the message is TensorFlow Serving's.
    """
    if not types:
        raise StatusError(f"Failed to get input map for signature: {read_signature_name(document) or 'DEFAULT'}")
    if "instances" in document and "inputs" in document:
        raise StatusError(
            f"JSON Value: {shorten(document)} Not formatted correctly expecting only one of 'inputs' or 'instances' "
            "keys to exist "
        )
    if "instances" in document:
        instances = document["instances"]
        if not isinstance(instances, list):
            raise StatusError(f"JSON Value: {shorten(document)} Expecting 'instances' to be an list/array")
        if not instances:
            raise StatusError(f"JSON Value: {shorten(document)} No values in 'instances' array")
        return _read_rows(instances, types, plain=plain), "row"
    if "inputs" in document:
        return _read_columns(document["inputs"], types, plain=plain), "columnar"
    raise StatusError("Missing 'inputs' or 'instances' key")


def shorten(value: Any) -> str:
    """Return a value as JSON for an error, cut short."""
    return json.dumps(value, ensure_ascii=False)[:_SHOWN]


def is_binary(value: Any) -> bool:
    """Return True if a value is ``{"b64": text}``."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _read_rows(instances: Sequence[Any], types: Mapping[str, str], *, plain: bool) -> Arrays:
    if not isinstance(instances[0], dict) and len(types) > 1:
        raise StatusError(
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    if not _is_object(instances[0]):
        for index, instance in enumerate(instances):
            if _is_object(instance):
                raise StatusError(f"Expecting value/list but got object at item {index} of input list")
        (name,) = types
        return {name: _stack_items(instances, types[name], name="", plain=plain)}
    for index, instance in enumerate(instances):
        if not _is_object(instance):
            raise StatusError(f"Expecting object but got list at item {index} of input list")
        for name in instance:
            if name not in types:
                raise StatusError(
                    f"Failed to process element: {index} key: {name} of 'instances' list. Error: INVALID_ARGUMENT: "
                    f"JSON object: does not have named input: {name}"
                )
        if instance.keys() != types.keys():
            raise StatusError(
                f"Failed to process element: {index} of 'instances' list. JSON object: {shorten(instance)} keys must "
                f"be equal to: {','.join(sorted(types))}"
            )
    return {
        name: _stack_items([instance[name] for instance in instances], kind, name=name, plain=plain)
        for name, kind in types.items()
    }


def _read_columns(inputs: Any, types: Mapping[str, str], *, plain: bool) -> Arrays:
    if not _is_object(inputs):
        if len(types) > 1:
            raise StatusError(
                "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        (name,) = types
        return {name: _read_array(inputs, types[name], plain=plain)}
    for name in types:
        if name not in inputs:
            raise StatusError(f"Missing named input: {name} in 'inputs' object.")
    return {name: _read_array(inputs[name], kind, plain=plain) for name, kind in types.items()}


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_binary(value)


def _stack_items(items: Sequence[Any], kind: str, *, name: str, plain: bool) -> np.ndarray[Any, Any]:
    """Return items of equal shape as one array with one more dimension."""
    quick = _read_quickly(items, kind) if plain else None
    if quick is not None:
        return quick
    key = f" key: {name}" if name else ""
    arrays: list[np.ndarray[Any, Any]] = []
    for index, item in enumerate(items):
        try:
            array = _read_array(item, kind, plain=False)
            if arrays and arrays[0].size != array.size:
                raise StatusError(f"Expecting tensor size: {arrays[0].size} but got: {array.size}")
            if arrays and arrays[0].shape != array.shape:
                raise StatusError(
                    f"Expecting shape {_format_shape(arrays[0].shape)} but got: {_format_shape(array.shape)}"
                )
        except StatusError as refusal:
            raise StatusError(
                f"Failed to process element: {index}{key} of 'instances' list. Error: INVALID_ARGUMENT: {refusal}"
            ) from refusal
        arrays.append(array)
    return np.stack(arrays)


def _read_array(value: Any, kind: str, *, plain: bool) -> np.ndarray[Any, Any]:

    if kind not in TYPES:
        raise StatusError(f"Conversion of JSON Value: {shorten(value)} to type: {kind}", code=UNIMPLEMENTED)
    quick = _read_quickly(value, kind) if plain else None
    if quick is not None:
        return quick
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    if len(shape) > _MOST_DIMENSIONS:
        raise StatusError(
            f"JSON Value: {shorten(value)} has {len(shape)} dimensions; at most {_MOST_DIMENSIONS} are read"
        )
    elements: list[Any] = []
    _collect_elements(value, 0, shape, kind, elements)
    if kind == "string":
        array = np.empty(len(elements), dtype=object)
        array[:] = elements
        return array.reshape(shape)
    with np.errstate(over="ignore"):
        wide = np.array(elements, dtype=_choose_wide_type(kind))
        return wide.astype(TYPES[kind]).reshape(shape)


def _read_quickly(value: Any, kind: str) -> np.ndarray[Any, Any] | None:
    """Return the array of a value with numbers only, the usual case; None where each element must be checked."""
    if kind not in _FLOATS and kind not in _RANGES:
        return None
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):  # lists of unequal length, or a number beyond all types
        return None
    if kind in _FLOATS:
        if array.dtype.kind not in "iuf":
            return None
        with np.errstate(over="ignore"):
            return array.astype(TYPES[kind])
    if array.dtype.kind not in "iu" or not array.size:
        return None
    least, most = _RANGES[kind]
    if int(array.min()) < least or int(array.max()) > most:
        return None
    return array.astype(TYPES[kind])


def _collect_elements(value: Any, level: int, shape: Sequence[int], kind: str, elements: list[Any]) -> None:
    """Append the elements of nested lists to ``elements``; every list must have the shape of the first one."""
    if not isinstance(value, list):
        if level != len(shape):
            raise StatusError(
                f"JSON Value: {shorten(value)} found at incorrect level: {level + 1} in the JSON DOM. Expected at "
                f"level: {len(shape)}"
            )
        elements.append(_read_element(value, kind))
        return
    if level >= len(shape):
        raise StatusError(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise StatusError(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for item in value:
        _collect_elements(item, level + 1, shape, kind, elements)


def _read_element(value: Any, kind: str) -> Any:

    if kind == "string":
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
        if isinstance(value, dict):
            return _decode_base64(value)
    elif kind == "bool":
        if isinstance(value, bool):
            return value
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        if kind in _FLOATS:
            return value
        if isinstance(value, int) and _RANGES[kind][0] <= value <= _RANGES[kind][1]:
            return value
    raise StatusError(f"JSON Value: {shorten(value)} Type: {_name_json_type(value)} is not of expected type: {kind}")


def _decode_base64(value: Any) -> bytes:
    if not is_binary(value):
        raise StatusError(f"JSON Value: {shorten(value)} not formatted correctly for base64 data")
    text = value["b64"]
    try:
        # absl's reader takes text without the padding, too.
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise StatusError("Unable to base64 decode") from error


def _choose_wide_type(kind: str) -> Any:
    if kind in _FLOATS:
        return np.float64
    return np.bool_ if kind == "bool" else np.uint64 if kind == "uint64" else np.int64


def _name_json_type(value: Any) -> str:
    if value is None:
        return "Null"
    if isinstance(value, bool):
        return str(value)
    for kind, name in ((dict, "Object"), (list, "Array"), (str, "String")):
        if isinstance(value, kind):
            return name
    return "Number"


def _format_shape(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"
