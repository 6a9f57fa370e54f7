"""Values of JSON, read strictly: what two readers could read in two ways is an error here. No I/O.

No name twice in an object, no number beyond a double's range, no NaN, no half of a character, and no nesting deeper
than anybody means. Source: RFC 8259, sections 4, 6 and 8.2.

A line of an augmented manifest: read from a stream, and written again. No I/O.

An augmented manifest is JSON Lines: one JSON object a line, UTF-8. Source: SageMaker developer guide, "Augmented
Manifest Files for Training Jobs".

Selection: which attributes of a line a training job streams, in which order, and in which order the lines. No I/O.

Source: SageMaker developer guide, "Augmented Manifest Files for Training Jobs", and API_S3DataSource.

Splitting: which lines a model learns from, and on which it is judged, found from each line alone. No I/O.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn, TypeAlias

from tritonforge.errors import DefinitionError, ManifestError
from tritonforge.records import Buffer, RecordError, split

__all__ = [
    "MAX_ATTRIBUTE_NAMES",
    "MAX_LINE_BYTES",
    "Json",
    "Line",
    "Reference",
    "SelectedAttribute",
    "Split",
    "Value",
    "assign_split",
    "check_attribute_names",
    "check_fraction",
    "check_reference",
    "compute_split_position",
    "encode_json",
    "encode_value",
    "parse_line",
    "read_json",
    "read_lines",
    "select_attributes",
    "shuffle_order",
    "split_lines",
]

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


def encode_json(value: object) -> bytes:
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
        encode_json(value)
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):x}"
        raise ManifestError(f"{what} holds {half}, half of a character", line=number) from error


#: Bytes of the longest line that is read; what Ground Truth writes for a picture has some thousand.
MAX_LINE_BYTES: Final = 8 * 2**20


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its number, counted from 1, its attributes in their order, and its bytes as they stood."""

    number: int
    attributes: Mapping[str, Json]
    text: bytes = field(default=b"", repr=False, compare=False)

    def written(self) -> bytes:
        """The line in canonical form, with its line feed: no blanks, the attributes in their order, UTF-8."""
        return encode_json(self.attributes) + b"\n"

    def error(self, attribute: str, what: str) -> ManifestError:
        """What is wrong with an attribute of this line."""
        return ManifestError(what, line=self.number, attribute=attribute)


def read_lines(chunks: Iterable[Buffer], *, longest: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """The lines of an augmented manifest, one after another, as its bytes arrive; at most one chunk and line are held.

    The chunks may be cut anywhere; an open binary file is one, too. Raises ManifestError, after every line before the
    damage was given out, and whatever ``chunks`` raises.
    """
    for number, text in split_lines(chunks, longest=longest):
        yield parse_line(text, number)


def split_lines(chunks: Iterable[Buffer], *, longest: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes]]:
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


def parse_line(text: bytes | str, number: int = 1) -> Line:
    """One line. Raises ManifestError where it is no JSON object in UTF-8, or can be read in two ways."""
    value = read_json(text, number=number)
    if isinstance(value, dict):
        return Line(number, value, text.encode() if isinstance(text, str) else bytes(text))
    found = "an array; is this a classic manifest?" if isinstance(value, list) else f"{encode_json(value).decode():.40}"
    raise ManifestError(f"the line must be a JSON object, found {found}", line=number)


#: A whole address of an object. Source: botocore's model of SageMaker, `S3Uri`.
_S3: Final = re.compile(r"s3://[^/]+/.+", re.DOTALL)


_LONGEST_URI: Final = 1024


def check_reference(value: Json, *, local: bool = False) -> str:
    """What is wrong with the address of an object, "" for a good one."""
    if not isinstance(value, str) or not value:
        return "must be the address of an object, s3://bucket/key"
    if len(value) > _LONGEST_URI:
        return f"the address has {len(value)} characters, more than {_LONGEST_URI}"
    if _S3.fullmatch(value) or (local and "://" not in value):
        return ""
    if value.startswith("s3://"):
        return f"{value} is no address of an object; expected s3://bucket/key"
    return f"{value:.200} is not on S3, from where SageMaker reads; expected s3://bucket/key (--local takes paths)"


#: Source: botocore's model of SageMaker, `AttributeNames` and `AttributeName`.
MAX_ATTRIBUTE_NAMES: Final = 16
_LONGEST_NAME: Final = 256

_REFERENCE: Final = "-ref"


@dataclass(frozen=True, slots=True)
class Reference:
    """An attribute whose name ends in ``-ref``: the bytes of the object at this address are streamed."""

    uri: str


@dataclass(frozen=True, slots=True)
class Value:
    """Any other attribute: these bytes are streamed."""

    data: bytes


SelectedAttribute: TypeAlias = "Reference | Value"


def check_attribute_names(names: Sequence[str]) -> tuple[str, ...]:
    """`AttributeNames` as a job may state them: 1 to 16, of 1 to 256 characters each.

    Their order is that of the stream, and upper and lower case differ. Raises DefinitionError.
    """
    if isinstance(names, str) or not 1 <= len(names) <= MAX_ATTRIBUTE_NAMES:
        found = repr(names) if isinstance(names, str) else f"{len(names)} of them"
        raise DefinitionError(f"AttributeNames must be a list of 1 to {MAX_ATTRIBUTE_NAMES} names, found {found}")
    for name in names:
        if not 1 <= len(name) <= _LONGEST_NAME or "\n" in name:
            raise DefinitionError(
                f"AttributeNames: a name is one line of 1 to {_LONGEST_NAME} characters, found {name[:60]!r}"
            )
    return tuple(names)


def select_attributes(line: Line, names: Sequence[str]) -> tuple[SelectedAttribute, ...]:
    """What a job streams of a line, in the order of the names.

    Raises ManifestError, with the line and the attribute, for one that is not there, and for a reference that is no
    address.
    """
    return tuple([_selected(line, name) for name in names])


def encode_value(value: Json) -> bytes:
    """What is streamed of a value: a string's own text in UTF-8, anything else as JSON text without blanks.

    >>> value_text("0"), value_text(1), value_text({"a": [1, 2]})
    (b'0', b'1', b'{"a":[1,2]}')
    """
    return value.encode() if isinstance(value, str) else encode_json(value)


def shuffle_order(count: int, *, seed: int, epoch: int) -> list[int]:
    """The order, after a shuffle, of ``count`` lines numbered from 0: all of them once.

    Line *i* is sorted by the SHA-256 of the text ``seed/epoch/i``, so that any language finds the same order again. An
    epoch counts from 0, as the number of its pipe does. Source of when to shuffle: API_ShuffleConfig; SageMaker's own
    algorithm is not published.
    """
    start = hashlib.sha256(f"{seed}/{epoch}/".encode())

    def key(number: int) -> bytes:
        digest = start.copy()
        digest.update(str(number).encode())
        return digest.digest()

    return sorted(range(count), key=key)


def _selected(line: Line, name: str) -> SelectedAttribute:
    if name not in line.attributes:
        raise line.error(name, _missing(line, name))
    value = line.attributes[name]
    if not name.endswith(_REFERENCE):
        return Value(encode_value(value))
    if not isinstance(value, str) or not value:
        raise line.error(name, "the name ends in -ref, so that the value must be the address of an object")
    return Reference(value)


def _missing(line: Line, name: str) -> str:
    """Why an attribute is not there, as far as the line tells."""
    metadata = line.attributes.get(f"{name}-metadata")
    if isinstance(metadata, dict) and "failure-reason" in metadata:
        return f"the line does not have it; labelling failed: {metadata['failure-reason']!s:.200}"
    near = {each.lower(): each for each in line.attributes}
    matches = difflib.get_close_matches(name.lower(), list(near), n=1)
    hint = f"; did you mean {near[matches[0]]}?" if matches else ""
    found = ", ".join(list(line.attributes)[:MAX_ATTRIBUTE_NAMES]) or "nothing"
    return f"the line does not have it{hint} (it has {found})"


Split: TypeAlias = Literal["train", "validation"]


def assign_split(line: Line, *, fraction: float, seed: int = 0, by: str = "source-ref") -> Split:
    """The side of a line: about ``fraction`` of all lines are for validation.

    It follows from the seed and one attribute of the line, so that an image is always on the same side, whatever else
    is in the file and in whatever order; with a larger fraction, what was for validation still is. Raises ManifestError
    where the line does not have the attribute, DefinitionError for a fraction that is none.
    """
    check_fraction(fraction)
    if by not in line.attributes:
        raise line.error(by, "the line does not have it, and it is what the split goes by")
    return "validation" if compute_split_position(encode_value(line.attributes[by]), seed) < fraction else "train"


def compute_split_position(key: bytes, seed: int) -> float:
    """Where in [0, 1) a key lies: the first 53 bits of the SHA-256 of the text ``seed/key``, as a part of 2**53."""
    digest = hashlib.sha256(f"{seed}/".encode() + key).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def check_fraction(fraction: float) -> None:
    """Refuse what is no part of a whole, with a DefinitionError."""
    if not 0 <= fraction <= 1:
        raise DefinitionError(f"the fraction for validation must lie from 0 to 1, found {fraction}")
