"""One tensor between numpy and the wire, for every KServe v2 datatype. This module does no I/O.

Binary form: little-endian, row-major, no padding; BOOL is one byte; an element of BYTES is its length as uint32 and
then its bytes (Triton's extension_binary_data.md, "Tensor Data"). JSON form: a flat list in row-major order; FP16 and
BF16 have no JSON form (http_server.cc, "data via JSON is not supported").

Copies are avoided: buffers are views of the caller's array, decoded arrays are read-only views of the body. A view may
be unaligned; ``numpy.require(array, requirements="A")`` copies where that matters.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from types import MappingProxyType
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from tritonforge.datatypes import BY_WIRE, DATATYPES, Datatype, from_numpy
from tritonforge.errors import DecodeError, EncodeError

__all__ = ["Array", "Buffer", "as_array", "datatype_of", "from_binary", "from_json", "read_datatype", "to_binary",
           "to_json"]  # fmt: skip

Array: TypeAlias = npt.NDArray[Any]
Buffer: TypeAlias = bytes | memoryview

_DTYPES: Final[Mapping[str, np.dtype[Any]]] = MappingProxyType(
    {datatype.wire: datatype.dtype for datatype in DATATYPES}
)
#: What Python's JSON reader gives for elements of each kind; another kind is refused.
_JSON_TYPES: Final[Mapping[str, tuple[frozenset[type], str]]] = MappingProxyType(
    {
        "boolean": (frozenset((bool,)), "booleans"),
        "bytes": (frozenset((str,)), "strings"),
        "float": (frozenset((int, float)), "numbers"),
        "integer": (frozenset((int,)), "integers"),
    }
)

_LENGTH: Final = struct.Struct("<I")
_LONGEST: Final = 2**32 - 1
#: Elements of BYTES below this mean size are joined while encoding: a buffer costs more than its copy.
_SMALL_ELEMENT: Final = 4096
_datatype_of = lru_cache(maxsize=64)(from_numpy)


def as_array(name: str, value: object) -> Array:
    """Return the value as an array; lists of text or bytes become object arrays, so that no trailing zero is lost.

    numpy itself drops the trailing zero bytes of ``S`` and ``U`` arrays. Raises EncodeError for ragged lists.
    """
    if isinstance(value, np.ndarray):
        return value
    try:
        array = np.asarray(value)
        if array.dtype.kind in "SU":
            array = np.array(value, dtype=object)
    except ValueError as error:
        raise EncodeError(f"tensor {name!r}: no array can be made of it: {error}") from error
    return array


def datatype_of(name: str, array: Array) -> Datatype:
    """Return the datatype of the array; raises EncodeError where KServe has none."""
    datatype = _datatype_of(array.dtype)
    if datatype is None:
        raise EncodeError(
            f"tensor {name!r}: numpy type {array.dtype} has no KServe datatype; cast it to one of {', '.join(BY_WIRE)}"
        )
    return datatype


def read_datatype(name: str, *, where: str) -> Datatype:
    """Return the datatype with this wire name; raises DecodeError."""
    datatype = BY_WIRE.get(name)
    if datatype is None:
        raise DecodeError(f"{where}: {name!r:.40} is not a datatype; expected one of {', '.join(BY_WIRE)}")
    return datatype


def to_binary(name: str, array: Array, datatype: Datatype) -> list[Buffer]:
    """Return the array in binary form, as buffers that are sent one after another.

    A C-contiguous little-endian array is one view of itself. Large elements of BYTES are buffers of their own between
    the lengths; small ones are joined.
    """
    if datatype.size is None:
        return _encode_bytes(name, array)
    if array.size == 0:
        return []
    little = _DTYPES[datatype.wire]
    flat = np.ascontiguousarray(array if array.dtype == little else array.astype(little)).reshape(-1)
    return [flat.view(np.uint8).data.toreadonly()]


def to_json(name: str, array: Array, datatype: Datatype) -> list[Any]:
    """Return the array in JSON form: a flat list in row-major order.

    Raises EncodeError for FP16 and BF16, and for BYTES that are not UTF-8.
    """
    if not datatype.has_json or datatype.kind not in _JSON_TYPES:
        raise EncodeError(f"tensor {name!r}: Triton takes no {datatype.wire} in JSON; send it in binary form")
    if datatype.size is not None:
        flat: list[Any] = array.reshape(-1).tolist()
        return flat
    return [_decode_element(name, index, element) for index, element in enumerate(_list_elements(name, array))]


def from_binary(body: Buffer, start: int, stop: int, datatype: Datatype, shape: Sequence[int], *, where: str) -> Array:
    """Return the array in ``body[start:stop]``: a read-only view, or an object array of ``bytes`` for BYTES.

    Raises DecodeError where the bytes do not fill the shape exactly, before anything is allocated.
    """
    count = math.prod(shape)
    if datatype.size is None:
        array = _decode_bytes(body, start, stop, count, where=where)
    else:
        if stop - start != count * datatype.size:
            raise DecodeError(
                f"{where}: expected {_format_number(count * datatype.size)} bytes for {datatype.wire} of shape "
                f"{_format_shape(shape)}, found {stop - start}"
            )
        if count == 0:
            array = np.empty(0, dtype=_DTYPES[datatype.wire])
        elif datatype.kind == "boolean":
            array = _view_booleans(np.frombuffer(body, dtype=np.uint8, count=count, offset=start))
        else:
            # numpy has no view of bfloat16 in a buffer's format, so the view is taken of bytes and then renamed.
            view = np.frombuffer(body, dtype=np.uint8, count=stop - start, offset=start)
            array = view.view(_DTYPES[datatype.wire])
    array.flags.writeable = False
    return _reshape(array, shape, where=where)


def from_json(data: list[Any], datatype: Datatype, shape: Sequence[int], *, where: str) -> Array:
    """Return the array in a JSON ``data`` member.

    As in Triton, nesting is ignored, and a shape with a 0 ignores the data. Unlike in Triton, which wraps it silently,
    an integer that its datatype cannot hold is refused. Raises DecodeError.
    """
    if not datatype.has_json or datatype.kind not in _JSON_TYPES:
        raise DecodeError(f"{where}: {datatype.wire} has no JSON form; it must come in binary form")
    count = math.prod(shape)
    flat = _flatten(data) if count else []
    if len(flat) != count:
        raise DecodeError(
            f"{where}: expected {_format_number(count)} elements for shape {_format_shape(shape)}, "
            f"found {len(flat)} in 'data'"
        )
    allowed, name = _JSON_TYPES[datatype.kind]
    if not set(map(type, flat)) <= allowed:
        odd = next(element for element in flat if type(element) not in allowed)
        raise DecodeError(f"{where}: 'data' of {datatype.wire} must hold {name}, found {odd!r:.40}")
    if datatype.size is None:
        try:
            array = _make_object_array([element.encode("utf-8", "surrogateescape") for element in flat])
        except UnicodeEncodeError as error:
            raise DecodeError(f"{where}: 'data' holds text that is not Unicode: {error}") from error
    else:
        array = _convert_numbers(flat, datatype, where=where)
    array.flags.writeable = False
    return _reshape(array, shape, where=where)


def _list_elements(name: str, array: Array) -> list[bytes]:

    elements: list[Any] = array.reshape(-1).tolist()
    if set(map(type, elements)) <= {bytes}:
        return elements
    return [_encode_element(name, index, element) for index, element in enumerate(elements)]


def _encode_element(name: str, index: int, value: object) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise EncodeError(f"tensor {name!r}: element {index} is text that is not Unicode: {error}") from error
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise EncodeError(f"tensor {name!r}: element {index} is of type {type(value).__name__}; BYTES holds bytes and str")


def _decode_element(name: str, index: int, value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise EncodeError(
            f"tensor {name!r}: element {index} is not UTF-8, which JSON needs; send it in binary form"
        ) from error


def _encode_bytes(name: str, array: Array) -> list[Buffer]:
    elements = _list_elements(name, array)
    lengths = list(map(len, elements))
    if not lengths:
        return []
    if max(lengths) > _LONGEST:
        raise EncodeError(
            f"tensor {name!r}: an element of {max(lengths)} bytes; BYTES elements end at {_LONGEST} bytes"
        )
    packed = {length: _LENGTH.pack(length) for length in set(lengths)}
    pieces = chain.from_iterable(zip(map(packed.__getitem__, lengths), elements, strict=True))
    if sum(lengths) < _SMALL_ELEMENT * len(lengths):
        return [b"".join(pieces)]
    return list(pieces)


def _decode_bytes(body: Buffer, start: int, stop: int, count: int, *, where: str) -> Array:
    if 4 * count > stop - start:
        raise DecodeError(
            f"{where}: expected {_format_number(count)} elements of BYTES, at least {_format_number(4 * count)} bytes, "
            f"found {stop - start} bytes"
        )
    elements: list[bytes] = []
    append = elements.append
    unpack = _LENGTH.unpack_from
    at = start
    if type(body) is not bytes:
        # Slices must be bytes; of a bytes object they are made in one copy.
        body, at, stop = bytes(body[start:stop]), 0, stop - start
    first = at
    try:
        for _ in range(count):
            (length,) = unpack(body, at)
            begin = at + 4
            at = begin + length
            append(body[begin:at])
    except struct.error as error:
        raise DecodeError(f"{where}: {_describe_fault(body, first, stop, count)}") from error
    if at != stop:
        raise DecodeError(f"{where}: {_describe_fault(body, first, stop, count)}")
    return _make_object_array(elements)


def _describe_fault(body: Buffer, at: int, stop: int, count: int) -> str:
    """Return the first problem of the BYTES tensor in ``body[at:stop]``."""
    for index in range(count):
        if stop - at < 4:
            return (
                f"expected {count} elements of BYTES; the length of element {index} is cut off after {stop - at} bytes"
            )
        (length,) = _LENGTH.unpack_from(body, at)
        at += 4
        if length > stop - at:
            return f"element {index} of BYTES should have {length} bytes, found {stop - at}"
        at += length
    return f"expected {count} elements of BYTES, found {stop - at} bytes after them"


def _view_booleans(view: npt.NDArray[np.uint8]) -> Array:
    # Any byte but 0 is true in Triton, but numpy's own booleans must be 0 or 1.
    canonical = not view.size or int(view.max()) <= 1
    booleans: Array = view.view(np.bool_) if canonical else view.astype(np.bool_)
    return booleans


def _convert_numbers(flat: list[Any], datatype: Datatype, *, where: str) -> Array:
    dtype = _DTYPES[datatype.wire]
    if flat and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        lowest, highest = min(flat), max(flat)
        if lowest < limits.min or highest > limits.max:
            odd = lowest if lowest < limits.min else highest
            raise DecodeError(f"{where}: {_format_number(odd)} in 'data' is outside of {datatype.wire}")
    try:
        # A float that is too large becomes Infinity, as in Triton.
        with np.errstate(over="ignore"):
            return np.array(flat, dtype=dtype)
    except OverflowError as error:
        raise DecodeError(f"{where}: a number in 'data' is outside of {datatype.wire}") from error


def _flatten(data: list[Any]) -> list[Any]:
    """Return the leaves of nested lists, in order, in time that grows with their number only."""
    if list not in set(map(type, data)):
        return data
    leaves: list[Any] = []
    stack = [iter(data)]
    while stack:
        for item in stack[-1]:
            if type(item) is list:
                if list in set(map(type, item)):
                    stack.append(iter(item))
                    break
                leaves.extend(item)
            else:
                leaves.append(item)
        else:
            stack.pop()
    return leaves


def _make_object_array(elements: list[bytes]) -> Array:
    array = np.empty(len(elements), dtype=object)
    array[:] = elements
    return array


def _reshape(array: Array, shape: Sequence[int], *, where: str) -> Array:
    try:
        return array.reshape(shape)
    except (ValueError, OverflowError) as error:
        raise DecodeError(f"{where}: no array can have the shape {_format_shape(shape)}: {error}") from error


def _format_shape(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _format_number(value: int) -> str:
    # Not in full: Python refuses to write integers of more than 4300 digits.
    return str(value) if value.bit_length() <= 128 else f"{'-' if value < 0 else ''}2**{value.bit_length() - 1} or more"
