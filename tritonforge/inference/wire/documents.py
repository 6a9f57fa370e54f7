"""The JSON part of a KServe v2 body: writing it compactly, and reading it field by field. This module does no I/O.

Every reader names the place ("input 'F'"), what was expected and what was found, and raises DecodeError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from tritonforge.errors import DecodeError, EncodeError

__all__ = ["Parameter", "check_parameters", "dump", "is_unicode", "load", "load_first", "read_list", "read_object",
           "read_parameters", "read_shape", "read_string", "read_unsigned"]  # fmt: skip

#: The values that Triton accepts as a parameter: http_server.cc, "should be either 'int', 'bool', or 'string'", and
#: double since 2.43.
Parameter: TypeAlias = bool | int | float | str

#: numpy's limits (NPY_MAXDIMS of numpy 2, npy_intp); a shape beyond them would also take long to multiply.
_MOST_DIMENSIONS: Final = 64
_LARGEST_DIMENSION: Final = 2**63

#: Bytes that are tried first for the object at the start of a body; most headers are far smaller.
_FIRST_WINDOW: Final = 64 * 1024
_BLANKS: Final = " \t\r\n"
#: Characters of the longest token whose start an error may report, other than a string: ``-Infinity``, an escape.
_LONGEST_TOKEN: Final = 16

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"), check_circular=False)


def dump(document: Mapping[str, Any]) -> bytes:
    """Return the document as compact ASCII JSON; NaN and Infinity are written as those tokens, which Triton reads."""
    return _ENCODER.encode(document).encode("ascii")


def load(text: bytes | memoryview, *, what: str) -> dict[str, Any]:
    """Return the JSON object in ``text``.

    Of two equal keys the first counts, as in Triton. Bytes that are not UTF-8 are kept as surrogate escapes, because
    Triton writes the bytes of a BYTES tensor into its JSON unchanged. Raises DecodeError.
    """
    try:
        document = _DECODER.decode(str(text, "utf-8", "surrogateescape"))
    except RecursionError as error:
        raise DecodeError(f"{what}: the JSON is nested too deeply to be read") from error
    except ValueError as error:
        raise DecodeError(f"{what}: the {len(text)} bytes of the header are not JSON: {error}") from error
    if type(document) is not dict:
        raise DecodeError(f"{what}: expected a JSON object, found {_describe_kind(document)}")
    return document


def load_first(body: bytes | memoryview, *, what: str) -> tuple[dict[str, Any], int]:
    """Return the JSON object at the start of ``body``, as `load` reads it, and where it ends; anything may follow it.

    Takes as long as reading the object itself, whatever follows. Raises DecodeError.
    """
    view = memoryview(body)
    size = _FIRST_WINDOW
    while True:
        # What follows may be large and not a text: only as much is decoded as the object needs.
        text = str(view[:size], "utf-8", "surrogateescape")
        start = len(text) - len(text.lstrip(_BLANKS))
        try:
            document, end = _DECODER.raw_decode(text, start)
            break
        except RecursionError as error:
            raise DecodeError(f"{what}: the JSON is nested too deeply to be read") from error
        except ValueError as error:
            if size < len(view) and _is_cut_off(error, len(text)):
                size *= 16
                continue
            raise DecodeError(f"{what}: its {len(view)} bytes do not begin with a JSON object: {error}") from error
    if type(document) is not dict:
        raise DecodeError(f"{what}: expected a JSON object, found {_describe_kind(document)}")
    return document, len(text[:end].encode("utf-8", "surrogateescape"))


def _is_cut_off(error: ValueError, length: int) -> bool:
    """Return True if a text of this length may be JSON whose end is missing."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.pos >= length - _LONGEST_TOKEN or error.msg.startswith("Unterminated string")


def is_unicode(text: str) -> bool:
    """Return True if the text can be written as UTF-8: it has no lone surrogates."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_string(document: Mapping[str, Any], key: str, *, where: str, default: str | None = None) -> str:
    """Return a member that is a string; ``default`` where it is missing."""
    value = document.get(key, default)
    if type(value) is not str or not is_unicode(value):
        raise _member_error(where, key, "a string of UTF-8", document)
    return value


def read_unsigned(document: Mapping[str, Any], key: str, *, where: str) -> int | None:
    """Return a member that is an unsigned integer, None where it is missing."""
    value = document.get(key)
    if value is None and key not in document:
        return None
    if type(value) is not int or value < 0:
        raise _member_error(where, key, "an unsigned integer", document)
    return value


def read_list(document: Mapping[str, Any], key: str, *, where: str) -> list[Any]:
    """Return a member that is an array; it must not be missing."""
    value = document.get(key)
    if type(value) is not list:
        raise _member_error(where, key, "an array", document)
    return value


def read_object(value: object, *, where: str) -> dict[str, Any]:
    """Return a value that is an object."""
    if type(value) is not dict:
        raise DecodeError(f"{where}: expected a JSON object, found {_describe_kind(value)}")
    return value


def read_shape(document: Mapping[str, Any], *, where: str) -> tuple[int, ...]:
    """Return the member ``shape``: unsigned integers, batch dimension included."""
    shape = read_list(document, "shape", where=where)
    if len(shape) > _MOST_DIMENSIONS:
        raise DecodeError(f"{where}: 'shape' has {len(shape)} dimensions; arrays have at most {_MOST_DIMENSIONS}")
    for extent in shape:
        if type(extent) is not int or not 0 <= extent < _LARGEST_DIMENSION:
            raise DecodeError(f"{where}: 'shape' must hold unsigned integers below 2**63, found {_shorten(extent)}")
    return tuple(shape)


def read_parameters(document: Mapping[str, Any], *, where: str) -> dict[str, Parameter]:
    """Return the member ``parameters``: booleans, numbers and strings by name; empty where it is missing."""
    value = document.get("parameters")
    if value is None and "parameters" not in document:
        return {}
    if type(value) is not dict:
        raise _member_error(where, "parameters", "an object", document)
    for key, member in value.items():
        if type(member) not in (bool, int, float, str):
            raise DecodeError(
                f"{where}: parameter {key!r} must be a boolean, a number or a string, found {_describe_kind(member)}"
            )
        if not is_unicode(key) or (type(member) is str and not is_unicode(member)):
            raise DecodeError(f"{where}: parameter {key!r} holds text that is not UTF-8")
    return value


def check_parameters(
    parameters: Mapping[str, Parameter] | None, *, where: str, reserved: Mapping[str, str]
) -> dict[str, Parameter]:
    """Return the caller's parameters, checked; ``reserved`` maps a reserved name to what to write instead."""
    checked: dict[str, Parameter] = {}
    for key, value in (parameters or {}).items():
        if not isinstance(key, str):
            raise EncodeError(f"{where}: a parameter's name must be a string, found {key!r}")
        if key in reserved:
            raise EncodeError(f"{where}: parameter {key!r} is written by the encoder; {reserved[key]}")
        if key.startswith("triton_"):
            raise EncodeError(f"{where}: parameter {key!r}: names that start with 'triton_' are reserved for Triton")
        if not isinstance(value, (bool, int, float, str)):
            raise EncodeError(
                f"{where}: parameter {key!r} is of type {type(value).__name__}; Triton takes bool, int, float and str"
            )
        if isinstance(value, int) and not -(2**63) <= value < 2**64:
            raise EncodeError(f"{where}: parameter {key!r} does not fit in 64 bits")
        if not is_unicode(key) or (isinstance(value, str) and not is_unicode(value)):
            raise EncodeError(f"{where}: parameter {key!r} holds text that is not Unicode")
        checked[key] = value
    return checked


def _keep_first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        members |= dict(reversed(pairs))
    return members


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_keep_first)


def _describe_kind(value: object) -> str:
    if value is None:
        return "null"
    names = {
        dict: "an object",
        list: "an array",
        str: "a string",
        bool: "a boolean",
        int: "an integer",
        float: "a float",
    }
    return names.get(type(value), type(value).__name__)


def _shorten(value: object) -> str:
    if isinstance(value, (list, dict)):
        return _describe_kind(value)
    text = ascii(value) if not isinstance(value, int) or value.bit_length() < 1000 else "a huge integer"
    return text if len(text) <= 40 else f"{text[:37]}..."


def _member_error(where: str, key: str, expected: str, document: Mapping[str, Any]) -> DecodeError:
    if key not in document:
        return DecodeError(f"{where}: {key!r} is missing; it must be {expected}")
    return DecodeError(f"{where}: {key!r} must be {expected}, found {_shorten(document[key])}")
