"""The inputs of a model: what they are, and values converted to them. This module does no I/O.

The SageMaker front end has no call for metadata, but Triton checks a request before it runs a model, and reports what
it expected: first the number and names of the inputs, then each input's datatype, then its shape
(core/src/infer_request.cc, ``InferenceRequest::Normalize``). A request that is wrong on purpose is answered at once,
with status 400, and no model runs. Read on tritonserver 2.51; other wording gives no metadata rather than wrong ones.

Values are as users write them: JSON, text, bytes of a file, arrays. They are converted to the datatype and the shape of
the model's metadata. A conversion loses nothing: a number that the datatype cannot hold is an error, and so is a change
of the shape beyond axes of length 1. Every error says which input, what it expects, and what it got.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tritonforge.datatypes import BY_WIRE
from tritonforge.errors import EncodeError, ServerError
from tritonforge.inference.transports import Call, RelayError, TensorMetadata, Transport
from tritonforge.inference.wire import Payload, encode_request

__all__ = [
    "Send", "convert_array", "convert_bytes", "convert_json", "convert_text", "correct_input", "fit_shape",
    "probe_inputs", "probe_names", "repeat_rows", "send_invalid",
]  # fmt: skip

#: Sends a payload and returns the message of the error that came back, empty when none came.
Send: TypeAlias = Callable[[Payload], str]

_MISSING: Final = re.compile(
    r"expected (?:number of inputs between \d+ and )?\d+ (?:inputs )?but got \d+ inputs for model .*"
    r"missing required input\(s\) \[?(.*?)\]\. Please",
    re.DOTALL,
)
_UNEXPECTED: Final = re.compile(r"unexpected inference input '(.+?)' for model")
_DATATYPE: Final = re.compile(r"inference input '(.+?)' data-type is '\w+', but model '.*' expects '(\w+)'")
_SHAPE: Final = re.compile(r"unexpected shape for input '(.+?)' for model '.*'\. Expected \[([-\d,]*)\], got")

#: How many inputs no model has.
_MOST_INPUTS: Final = 256
#: More dimensions than any model's input has, so that the shape is refused too.
_RANK: Final = 19


def send_invalid(transport: Transport, call: Call) -> str:
    """Send a request that the model's server should refuse, and return the message of its error; "" if it accepts.

    Raises ServerError where the answer is not about the request, and ConnectError.
    """
    try:
        transport.infer(call)
    except RelayError:  # the model did not see the request
        raise
    except ServerError as error:
        if error.status >= 500 or error.status == 404:
            raise
        return error.message
    return ""


def probe_names(send: Send) -> tuple[str, ...] | None:
    """Return the names of a model's required inputs, by one request; None where the server does not report them."""
    # More inputs than any model has: Triton counts them first, and then lists the required ones that are missing.
    too_many = {f"tritonforge.probe.{index}": np.zeros(1, dtype=np.bool_) for index in range(_MOST_INPUTS)}
    missing = _MISSING.search(send(encode_request(too_many)))
    return None if missing is None else tuple(re.findall(r"'([^']*)'", missing[1]))


def correct_input(tensor: TensorMetadata, message: str) -> TensorMetadata | None:
    """Return an input as the refusal of a request describes it; None where the message is about something else."""
    if (match := _DATATYPE.search(message)) and match[1] == tensor.name and match[2] in BY_WIRE:
        return TensorMetadata(tensor.name, match[2], tensor.shape)
    if (match := _SHAPE.search(message)) and match[1] == tensor.name:
        shape = _parse_shape(match[2])
        return None if len(shape) == len(tensor.shape) else TensorMetadata(tensor.name, tensor.datatype, shape)
    return None


def probe_inputs(send: Send, *, named: Collection[str] = ()) -> tuple[TensorMetadata, ...]:
    """Return the required inputs of a model, in the order of their names; empty where the server does not report them.

    ``send`` is called once for the names, and at most three times for each input. ``named`` are inputs that the caller
    has values for: of those that the model has, the optional ones are returned as well.
    """
    required = probe_names(send)
    if required is None:
        return ()
    names = list(dict.fromkeys([*required, *named]))
    probes: dict[str, Any] = {name: _build_probe("BOOL") for name in names}
    datatypes = dict.fromkeys(names, "BOOL")
    shapes: dict[str, tuple[int, ...]] = {}
    for _ in range(3 * len(names)):
        if len(shapes) == len(probes):  # a request that fits would run the model
            break
        message = send(encode_request(probes))
        if (match := _DATATYPE.search(message)) and match[1] in probes and match[2] in BY_WIRE:
            datatypes[match[1]] = match[2]
            probes[match[1]] = _build_probe(match[2])
        elif (match := _SHAPE.search(message)) and match[1] in probes:
            shapes[match[1]] = _parse_shape(match[2])
            # From here on this input passes, and the message is about the next one.
            probes[match[1]] = _build_array(datatypes[match[1]], shapes[match[1]])
        elif (match := _UNEXPECTED.search(message)) and match[1] in probes and match[1] not in required:
            del probes[match[1]]
        elif _MISSING.search(message) and len(probes) > len(required):  # several of `named` are not the model's
            return probe_inputs(send)
        else:
            break
    return tuple(TensorMetadata(name, datatypes[name], shapes[name]) for name in names if name in shapes)


def _parse_shape(text: str) -> tuple[int, ...]:
    return tuple(int(extent) for extent in text.split(",") if extent)


def _build_probe(datatype: str) -> Any:
    return _build_array(datatype, (1,) * _RANK)


def _build_array(datatype: str, shape: tuple[int, ...]) -> Any:
    """Return an array of this shape, with 1 for each -1; a 0 stays."""
    concrete = tuple(max(extent, 1) if extent else 0 for extent in shape)
    if datatype == "BYTES":
        return np.full(concrete, b"", dtype=object)
    return np.zeros(concrete, dtype=BY_WIRE[datatype].dtype)


Array = npt.NDArray[Any]

#: How JSON, which has no such numbers, writes them; also the strings that `tritonforge infer` prints.
_SPECIAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

#: How many ways to add or leave out axes are tried; only arrays of very many dimensions have more.
_MOST_SHAPES: Final = 10_000


def convert_json(value: object, tensor: TensorMetadata) -> Array:
    """Return the array of a JSON value: a number, a string, a boolean, or nested lists of them.

    Integers keep all their digits; ``"NaN"``, ``"Infinity"`` and ``"-Infinity"`` are numbers for FP16, BF16, FP32 and
    FP64. Raises EncodeError.

    >>> convert_json([1, 2], TensorMetadata("x", "FP32", (-1, 2)))
    array([[1., 2.]], dtype=float32)
    """
    leaves, shape = _flatten(value, tensor)
    datatype = _find_datatype(tensor)
    if datatype.size is None:
        array = np.empty(len(leaves), dtype=object)
        array[:] = [_convert_text(leaf, tensor) for leaf in leaves]
    elif datatype.kind == "boolean":
        array = np.array([_convert_boolean(leaf, tensor) for leaf in leaves], dtype=np.bool_)
    elif datatype.kind == "integer":
        array = _cast_integers([_convert_integer(leaf, tensor) for leaf in leaves], tensor)
    else:
        array = _cast_floats(np.array([_convert_number(leaf, tensor) for leaf in leaves], dtype=np.float64), tensor)
    return fit_shape(array.reshape(shape), tensor)


def convert_text(text: str, tensor: TensorMetadata) -> Array:
    """Return the array of a text.

    For BYTES it is one element, unless it is a JSON list of strings, whose strings are the elements. For all other
    datatypes it is JSON. Raises EncodeError.

    >>> convert_text("hello", TensorMetadata("prompt", "BYTES", (-1, 1)))
    array([[b'hello']], dtype=object)
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if tensor.datatype == "BYTES":
        return convert_json(value if isinstance(value, list) and _holds_text(value) else text, tensor)
    if value is None:
        raise _value_error(tensor, f"the text {_shorten(text)}, which is not JSON" if text.strip() else "an empty text")
    return convert_json(value, tensor)


def convert_bytes(content: bytes, tensor: TensorMetadata) -> Array:
    """Return the array of the bytes of a file, such as an encoded image.

    For BYTES they are one element, for UINT8 a row of numbers. For all other datatypes they must be text with JSON.
    Raises EncodeError.
    """
    if tensor.datatype == "BYTES":
        array = np.empty((), dtype=object)
        array[()] = content
        return fit_shape(array, tensor)
    if tensor.datatype == "UINT8":
        given = f"a file of {len(content)} bytes; a file is one row of bytes, decoded pixels are sent as an array"
        return fit_shape(np.frombuffer(content, dtype=np.uint8), tensor, given=given)
    try:
        return convert_text(content.decode(), tensor)
    except UnicodeDecodeError:
        raise _value_error(
            tensor, f"a file of {len(content)} bytes that is not JSON; encoded images go to inputs of UINT8 and BYTES"
        ) from None


def convert_array(array: Array, tensor: TensorMetadata) -> Array:
    """Return the array in the input's datatype and shape.

    Integers become wider or narrower integers and floats, floats become wider or narrower floats, where every value
    still fits (a float may be rounded, not become infinite). Raises EncodeError.
    """
    datatype = _find_datatype(tensor)
    if datatype.size is None:
        if array.dtype.kind not in "SUO":
            raise _value_error(tensor, f"an array of {array.dtype}")
        return fit_shape(array.astype(object), tensor)
    target = datatype.dtype
    if array.dtype.kind == "V" and array.dtype.itemsize == 2 and datatype.wire == "BF16":
        array = array.view(target)  # numpy's own files know no bfloat16, and hold it as two plain bytes
    kind = "f" if array.dtype.name == "bfloat16" else array.dtype.kind
    if array.dtype == target:
        return fit_shape(array, tensor)
    if target.kind in "iu" and kind in "iu":
        return fit_shape(_cast_integers(array, tensor), tensor)
    if datatype.kind == "float" and kind in "iuf":
        return fit_shape(_cast_floats(array, tensor), tensor)
    raise _value_error(tensor, f"an array of {array.dtype}; cast it first")


def fit_shape(array: Array, tensor: TensorMetadata, *, given: str = "") -> Array:
    """Return the array in a shape of the input: axes of length 1 are added or left out, first at the front.

    ``given`` describes the value in an error, instead of the array's shape. Raises EncodeError.

    >>> fit_shape(np.zeros(3), TensorMetadata("x", "FP64", (-1, 3))).shape
    (1, 3)
    """
    wanted = tensor.shape
    for shape in _list_shapes(array.shape, len(wanted)):
        if all(size in (-1, length) for size, length in zip(wanted, shape, strict=True)):
            return array.reshape(shape)
    raise _value_error(tensor, given or f"shape {list(array.shape)}")


def repeat_rows(array: Array, count: int, tensor: TensorMetadata) -> Array:
    """Return the array with ``count`` rows: unchanged if it has them, else its one row repeated. Raises EncodeError."""
    if array.ndim and array.shape[0] == count:
        return array
    if not array.ndim or array.shape[0] != 1:
        raise _value_error(tensor, f"{array.shape[0] if array.ndim else 0} rows for a batch of {count} images")
    return np.repeat(array, count, axis=0)


def _list_shapes(shape: tuple[int, ...], rank: int) -> Iterator[tuple[int, ...]]:
    """Yield the shapes of a rank that differ from this one in axes of length 1 only, added first at the front."""
    if len(shape) >= rank:
        ones = [axis for axis, length in enumerate(shape) if length == 1]
        for dropped in itertools.islice(itertools.combinations(ones, len(shape) - rank), _MOST_SHAPES):
            yield tuple(length for axis, length in enumerate(shape) if axis not in dropped)
        return
    for added in itertools.islice(itertools.combinations(range(rank), rank - len(shape)), _MOST_SHAPES):
        lengths = iter(shape)
        yield tuple(1 if axis in added else next(lengths) for axis in range(rank))


def _find_datatype(tensor: TensorMetadata) -> Any:
    datatype = BY_WIRE.get(tensor.datatype)
    if datatype is None:
        raise EncodeError(f"input {tensor.name!r}: {tensor.datatype!r} is not a KServe datatype")
    return datatype


def _flatten(value: object, tensor: TensorMetadata) -> tuple[list[Any], tuple[int, ...]]:
    """Return the leaves of nested lists, row-major, and the shape."""
    level: list[Any] = [value]
    shape: list[int] = []
    while level and all(isinstance(entry, list) for entry in level):
        lengths = {len(entry) for entry in level}
        if len(lengths) != 1 or len(shape) >= 32:
            raise _value_error(tensor, "nested lists of different lengths" if len(lengths) != 1 else "too deep lists")
        shape.append(lengths.pop())
        level = list(itertools.chain.from_iterable(level))
    if any(isinstance(entry, list) for entry in level):
        raise _value_error(tensor, "a list with both values and lists")
    return level, tuple(shape)


def _holds_text(value: list[Any]) -> bool:
    entries: list[Any] = value
    while entries and all(isinstance(entry, list) for entry in entries):
        entries = list(itertools.chain.from_iterable(entries))
    return bool(entries) and all(isinstance(entry, str) for entry in entries)


def _convert_text(leaf: object, tensor: TensorMetadata) -> bytes:
    if not isinstance(leaf, str):
        raise _value_error(tensor, f"{_shorten(leaf)}; strings are quoted in JSON")
    try:
        return leaf.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise _value_error(tensor, "text that is not Unicode") from None


def _convert_boolean(leaf: object, tensor: TensorMetadata) -> bool:
    if isinstance(leaf, bool) or (isinstance(leaf, int) and leaf in (0, 1)):
        return bool(leaf)
    raise _value_error(tensor, f"{_shorten(leaf)}; write true or false")


def _convert_integer(leaf: object, tensor: TensorMetadata) -> int:
    if isinstance(leaf, bool) or not isinstance(leaf, (int, float)) or leaf != leaf or leaf in (math.inf, -math.inf):
        raise _value_error(tensor, _shorten(leaf))
    if leaf != int(leaf):
        raise _value_error(tensor, f"{leaf!r}, which is not a whole number")
    return int(leaf)


def _convert_number(leaf: object, tensor: TensorMetadata) -> float:
    if isinstance(leaf, str) and leaf in _SPECIAL:
        return _SPECIAL[leaf]
    if isinstance(leaf, bool) or not isinstance(leaf, (int, float)):
        raise _value_error(tensor, _shorten(leaf))
    try:
        return float(leaf)
    except OverflowError:
        raise _value_error(tensor, f"{_shorten(leaf)}, which it cannot hold") from None


def _cast_integers(values: Sequence[int] | Array, tensor: TensorMetadata) -> Array:
    target = _find_datatype(tensor).dtype
    limits = np.iinfo(target)
    if len(values) if isinstance(values, list) else np.size(values):
        lowest, highest = (int(min(values)), int(max(values))) if isinstance(values, list) else _find_limits(values)
        for value in (lowest, highest):
            if not limits.min <= value <= limits.max:
                raise _value_error(tensor, f"{_shorten(value)}, which it cannot hold")
    return np.asarray(values).astype(target) if isinstance(values, np.ndarray) else np.array(values, dtype=target)


def _find_limits(values: Any) -> tuple[int, int]:
    return int(values.min()), int(values.max())


def _cast_floats(values: Array, tensor: TensorMetadata) -> Array:
    with np.errstate(over="ignore"):
        converted: Array = values.astype(_find_datatype(tensor).dtype)
    grown = np.isinf(converted.astype(np.float64)) & ~np.isinf(values.astype(np.float64))
    if grown.any():
        raise _value_error(tensor, f"{values[grown].reshape(-1)[0]!s}, which it cannot hold")
    return converted


def _shorten(value: object) -> str:
    """Return a value for a message: JSON, at most 40 characters."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 1000:
        return "a huge integer"
    try:
        text = json.dumps(value)
    except (TypeError, ValueError):
        text = ascii(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def _value_error(tensor: TensorMetadata, given: str) -> EncodeError:
    return EncodeError(f"input {tensor.name!r}: expected {tensor.datatype} of shape {list(tensor.shape)}, got {given}")
