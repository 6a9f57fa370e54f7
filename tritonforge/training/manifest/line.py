"""A line of an augmented manifest: read from a stream, and written again. No I/O.

An augmented manifest is JSON Lines: one JSON object a line, UTF-8. Source: SageMaker developer guide, "Augmented
Manifest Files for Training Jobs".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn, TypeAlias

from tritonforge.errors import ManifestError
from tritonforge.records import Buffer, RecordError, split

__all__ = ["LONGEST", "Json", "Line", "json_text", "parse", "raw_lines", "read"]

#: A value of JSON. Read, never written to.
Json: TypeAlias = "bool | int | float | str | list[Any] | dict[str, Any] | None"

#: Bytes of the longest line that is read; what Ground Truth writes for a picture has some thousand.
LONGEST: Final = 8 * 2**20

#: How many arrays and objects may lie in each other; what Ground Truth writes has five.
_DEEPEST: Final = 64


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number, counted from 1, its attributes in their order, and its bytes as they stood."""

    number: int
    attributes: Mapping[str, Json]
    text: bytes = field(default=b"", repr=False, compare=False)

    def written(self) -> bytes:
        """The line in canonical form, with its line feed: no blanks, the attributes in their order, UTF-8."""
        return json_text(self.attributes) + b"\n"

    def error(self, attribute: str, what: str) -> ManifestError:
        """What is wrong with an attribute of this line."""
        return ManifestError(what, line=self.number, attribute=attribute)


def read(chunks: Iterable[Buffer], *, longest: int = LONGEST) -> Iterator[Line]:
    """The lines of an augmented manifest, one after another, as its bytes arrive; at most one chunk and line are held.

    The chunks may be cut anywhere; an open binary file is one, too. Raises ManifestError, after every line before the
    damage was given out, and whatever ``chunks`` raises.
    """
    for number, text in raw_lines(chunks, longest=longest):
        yield parse(text, number)


def raw_lines(chunks: Iterable[Buffer], *, longest: int = LONGEST) -> Iterator[tuple[int, bytes]]:
    """The number and the bytes of each line, without its line feed; for who parses some of them, or later.

    Raises ManifestError for a line of more than ``longest`` bytes.
    """
    number = 0
    try:
        for record in split(chunks, "Line", max_record=longest):
            number = record.number + 1
            yield number, bytes(record.payload)
    except RecordError as error:
        what = f"the line is longer than {longest} bytes; nothing after it was read"
        raise ManifestError(what, line=number + 1) from error


def parse(text: bytes | str, number: int = 1) -> Line:
    """One line. Raises ManifestError where it is no JSON object in UTF-8, or names one thing twice."""
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    try:
        value = _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        what = _GZIP if data.startswith(b"\x1f\x8b") else f"the line is not UTF-8 at byte {error.start}"
        raise ManifestError(what, line=number) from error
    except json.JSONDecodeError as error:
        raise ManifestError(_no_json(data, error), line=number) from error
    except _TwiceError as error:
        raise ManifestError("the line has it twice", line=number, attribute=str(error)) from error
    except ValueError as error:
        raise ManifestError(f"the line holds a number that is none: {error!s:.60}", line=number) from error
    except RecursionError as error:
        raise ManifestError(_TOO_DEEP, line=number) from error
    if not isinstance(value, dict):
        what = f"the line must be a JSON object, found {json.dumps(value, ensure_ascii=False):.40}"
        if data.lstrip()[:1] == b"[":
            what = "the line must be a JSON object, found an array; is this a classic manifest?"
        raise ManifestError(what, line=number)
    if data.count(b"[") + data.count(b"{") > _DEEPEST and _depth(value) > _DEEPEST:
        raise ManifestError(_TOO_DEEP, line=number)
    if b"\\ud" in data or b"\\uD" in data:
        _refuse_halves(value, number)
    return Line(number, value, bytes(data))


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
                raise _TwiceError(name)
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

_GZIP: Final = "the line starts as gzip does; unpack the file first"
_TOO_DEEP: Final = f"the line has more than {_DEEPEST} objects and arrays in each other"


def _no_json(data: bytes, error: json.JSONDecodeError) -> str:
    if not data.strip():
        return "the line is empty"
    if data.startswith(b"\xef\xbb\xbf"):
        return "the line begins with a byte order mark; write the file as UTF-8 without one"
    return f"the line is no JSON: {error.msg} at character {error.pos + 1}"


def _depth(value: Json) -> int:
    """How many arrays and objects lie in each other."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, (dict, list))]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _refuse_halves(value: Json, number: int) -> None:
    """Refuse halves of surrogate pairs, which JSON can spell and UTF-8 cannot."""
    try:
        json_text(value)
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):x}"
        raise ManifestError(f"the line holds {half}, half of a character", line=number) from error
