"""Values of JSON, read strictly: what two readers could read in two ways is an error here. No I/O.

No name twice in an object, no number beyond a double's range, no NaN, no half of a character, and no nesting deeper
than anybody means. Source: RFC 8259, sections 4, 6 and 8.2.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn, TypeAlias

from tritonforge.errors import ManifestError

__all__ = ["Json", "json_text", "read_json"]

#: A value of JSON. Read, never written to.
Json: TypeAlias = "bool | int | float | str | list[Any] | dict[str, Any] | None"

#: How many arrays and objects may lie in each other; what Ground Truth writes has five.
_DEEPEST: Final = 64

_MARK: Final = b"\xef\xbb\xbf"
_GZIP: Final = b"\x1f\x8b"


def read_json(text: bytes | str, *, what: str = "the line", number: int | None = None) -> Json:
    """The value of a text. Raises ManifestError, which calls the text ``what``.

    ``number`` is the line of a text of one line; without it, the error has the line inside the text, where one is to
    blame.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
    try:
        value: Json = _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        raise ManifestError(_not_utf8(data, error, what), line=number) from error
    except json.JSONDecodeError as error:
        raise ManifestError(_no_json(data, error, what, number), line=number or error.lineno) from error
    except _TwiceError as error:
        raise ManifestError(f"{what} has it twice", line=number, attribute=str(error)) from error
    except ValueError as error:
        raise ManifestError(f"{what} holds a number that is none: {error!s:.60}", line=number) from error
    except RecursionError as error:
        raise ManifestError(_too_deep(what), line=number) from error
    if data.count(b"[") + data.count(b"{") > _DEEPEST and _depth(value) > _DEEPEST:
        raise ManifestError(_too_deep(what), line=number)
    if b"\\ud" in data or b"\\uD" in data:
        _refuse_halves(value, what, number)
    return value


def json_text(value: object) -> bytes:
    """A JSON value as text without blanks, in UTF-8."""
    return _ENCODER.encode(value).encode()


class _TwiceError(Exception):
    """An object that has a name twice: which of the two holds, readers disagree."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _TwiceError(name.encode("utf-8", "replace").decode())
            seen.add(name)
    return found


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text:.40} is too large")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False)


def _not_utf8(data: bytes, error: UnicodeDecodeError, what: str) -> str:
    if data.startswith(_GZIP):
        return f"{what} starts as gzip does; unpack the file first"
    return f"{what} is not UTF-8 at byte {error.start}"


def _no_json(data: bytes, error: json.JSONDecodeError, what: str, number: int | None) -> str:
    if not data.strip():
        return f"{what} is empty"
    if data.startswith(_MARK):
        return f"{what} begins with a byte order mark; write the file as UTF-8 without one"
    return f"{what} is no JSON: {error.msg.removesuffix(' at')} at character {error.pos + 1 if number else error.colno}"


def _too_deep(what: str) -> str:
    return f"{what} has more than {_DEEPEST} objects and arrays in each other"


def _depth(value: Json) -> int:
    """How many arrays and objects lie in each other."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, (dict, list))]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _refuse_halves(value: Json, what: str, number: int | None) -> None:
    """Refuse halves of surrogate pairs, which JSON can spell and UTF-8 cannot."""
    try:
        json_text(value)
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):x}"
        raise ManifestError(f"{what} holds {half}, half of a character", line=number) from error
