"""A predict response of TensorFlow Serving's REST API: arrays to JSON, with its layout. No I/O here.

Numbers have six digits, or as many as the same number needs, so that nothing of an output is lost. Source:
tensorflow/serving tensorflow_serving/util/json_tensor.cc (`WriteDecimal`, `MakeRowFormatJsonFromTensors`,
`MakeColumnarFormatJsonFromTensors`); the layout is that of rapidjson's PrettyWriter.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from tritonforge.serving.tfs.predict_request import TYPES, Format, StatusError

__all__ = ["write_classifications", "write_error", "write_predictions", "write_regressions"]

_INDENT: Final = b"    "
#: Significant digits that identify every number of a type (std::numeric_limits::max_digits10).
_DIGITS: Final = {np.dtype(np.float32): 9, np.dtype(np.float64): 17}
_ESCAPED: Final = re.compile(rb'[\x00-\x1f"\\]')
_ESCAPES: Final = {
    b'"': b'\\"',
    b"\\": b"\\\\",
    b"\b": b"\\b",
    b"\f": b"\\f",
    b"\n": b"\\n",
    b"\r": b"\\r",
    b"\t": b"\\t",
}

#: The names of what TensorFlow Serving writes; others it refuses.
_WRITTEN: Final = frozenset(np.dtype(dtype) for dtype in TYPES.values())


def write_predictions(outputs: Mapping[str, np.ndarray[Any, Any]], form: Format) -> bytes:
    """Write the answer to a predict request, in the format of the request; outputs are sorted by name.

    Raises:
        StatusError: an output has a type that JSON cannot hold, or, in row format, no batch or another one.
    """
    if not outputs:
        raise StatusError("Cannot convert empty tensor map to JSON")
    named = {name: outputs[name] for name in sorted(outputs)}
    for array in named.values():
        if array.dtype not in _WRITTEN:
            raise StatusError(f"Failed to write JSON value for tensor type: {array.dtype.name}")
    if form == "columnar":
        return _write_object({"outputs": _write_columns(named)})
    return _write_object({"predictions": _write_rows(named)})


def write_classifications(results: Sequence[Sequence[tuple[bytes, float]]]) -> bytes:
    """Return the response to a classify request: for each example its (label, score) pairs, scores as float32."""
    rows = []
    for result in results:
        scores = _write_numbers(np.array([score for _, score in result], np.float32))
        pairs = zip((label for label, _ in result), scores, strict=True)
        rows.append(
            b"[" + b", ".join(b"[" + _write_string(label) + b", " + score + b"]" for label, score in pairs) + b"]"
        )
    return _write_object({"results": _write_list(rows)})


def write_regressions(values: np.ndarray[Any, Any]) -> bytes:
    """Return the response to a regress request: one value per example, float32."""
    return _write_object({"results": b"[" + b", ".join(_write_numbers(values.ravel())) + b"]"})


def write_error(message: str) -> bytes:
    """Return the response of an error."""
    return _write_object({"error": _write_string(message.encode("utf-8", "surrogateescape"))})


def _write_rows(named: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    size = -1
    for name, array in named.items():
        if array.ndim == 0:
            raise StatusError(f"Tensor name: {name} has no shape information ")
        if size >= 0 and len(array) != size:
            raise StatusError(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {size}")
        size = len(array)
    columns = {name: _write_lines(array, name) for name, array in named.items()}
    if len(columns) == 1:
        return _write_list(next(iter(columns.values())))
    if not size:
        return b"[]"
    inside = _INDENT * 3
    objects = []
    for row in zip(*columns.values(), strict=True):
        members = zip(columns, row, strict=True)
        text = b",\n".join(inside + _write_string(name.encode()) + b": " + value for name, value in members)
        objects.append(_INDENT * 2 + b"{\n" + text + b"\n" + _INDENT * 2 + b"}")
    return b"[\n" + b",\n".join(objects) + b"\n" + _INDENT + b"]"


def _write_list(values: Sequence[bytes]) -> bytes:
    """Return a list with its elements on one line and its end on another."""
    return b"[" + b", ".join(values) + b"\n" + _INDENT + b"]" if values else b"[]"


def _write_lines(array: np.ndarray[Any, Any], name: str) -> list[bytes]:
    """Return each element of the first dimension as JSON on one line."""
    elements = _write_elements(array, name)
    for extent in reversed(array.shape[1:]):
        groups = len(elements) // extent if extent else int(np.prod(array.shape[: array.ndim - 1]))
        elements = [b"[" + b", ".join(elements[at * extent : (at + 1) * extent]) + b"]" for at in range(groups)]
    return elements


def _write_columns(named: Mapping[str, np.ndarray[Any, Any]]) -> bytes:
    if len(named) == 1:
        ((name, array),) = named.items()
        return _write_nested(array.shape, iter(_write_elements(array, name)), 1)
    inside = _INDENT * 2
    members = []
    for name, array in named.items():
        value = _write_nested(array.shape, iter(_write_elements(array, name)), 2)
        members.append(inside + _write_string(name.encode()) + b": " + value)
    return b"{\n" + b",\n".join(members) + b"\n" + _INDENT + b"}"


def _write_nested(shape: Sequence[int], elements: Any, level: int) -> bytes:
    """Return nested lists with a line for each element."""
    if not shape:
        return bytes(next(elements))
    if not shape[0]:
        return b"[]"
    inside = _INDENT * (level + 1)
    items = [inside + _write_nested(shape[1:], elements, level + 1) for _ in range(shape[0])]
    return b"[\n" + b",\n".join(items) + b"\n" + _INDENT * level + b"]"


def _write_elements(array: np.ndarray[Any, Any], name: str) -> list[bytes]:

    flat = array.ravel()
    if array.dtype == object:
        if name.endswith("_bytes"):
            return [b'{"b64": "' + base64.b64encode(element) + b'"}' for element in flat]
        return [_write_string(element if isinstance(element, bytes) else str(element).encode()) for element in flat]
    if array.dtype == np.bool_:
        return [b"true" if element else b"false" for element in flat.tolist()]
    if array.dtype in _DIGITS:
        return _write_numbers(flat)
    return [b"%d" % element for element in flat.tolist()]


def _write_numbers(flat: np.ndarray[Any, Any]) -> list[bytes]:
    """Return floats with six digits, or with as many as the exact number needs."""
    values = flat.tolist()
    short = [f"{value:g}" for value in values]
    with np.errstate(over="ignore"):
        exact = np.array(short, dtype=np.float64).astype(flat.dtype) == flat if short else flat
    digits = _DIGITS[flat.dtype]
    numbers = []
    for text, value, same in zip(short, values, exact.tolist(), strict=True):
        if not same and value == value and abs(value) != float("inf"):
            numbers.append(_write_decimal(f"{value:.{digits}g}"))
        else:
            numbers.append(_write_decimal(text))
    return numbers


def _write_decimal(text: str) -> bytes:
    if text.endswith(("nan", "inf")):
        return {"nan": b"NaN", "-nan": b"NaN", "inf": b"Infinity", "-inf": b"-Infinity"}[text]
    return text.encode() if "." in text or "e" in text else text.encode() + b".0"


def _write_string(data: bytes) -> bytes:
    """Return a JSON string; bytes beyond ASCII are unchanged."""
    return b'"' + _ESCAPED.sub(lambda found: _ESCAPES.get(found[0]) or b"\\u%04X" % ord(found[0]), data) + b'"'


def _write_object(members: Mapping[str, bytes]) -> bytes:
    return (
        b"{\n"
        + b",\n".join(_INDENT + _write_string(name.encode()) + b": " + value for name, value in members.items())
        + b"\n}"
    )
