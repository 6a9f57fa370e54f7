"""Lines of an augmented manifest: parsed, selected, shuffled, and split into training and validation data. No I/O.

An augmented manifest is JSON Lines: one JSON object per line, UTF-8. JSON is read strictly: what two parsers could
read differently is an error.

Sources: SageMaker developer guide, "Augmented Manifest Files for Training Jobs"; API_S3DataSource; RFC 8259,
sections 4, 6 and 8.2.
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
    "MAX_ATTRIBUTE_NAMES", "MAX_LINE_BYTES", "Json", "Line", "Reference", "SelectedAttribute", "Split", "Value",
    "assign_split", "check_attribute_names", "check_fraction", "check_reference", "compute_split_position",
    "encode_json", "encode_value", "parse_line", "read_json", "read_lines", "select_attributes", "shuffle_order",
    "split_lines",
]  # fmt: skip

#: A value of JSON; never modified after it is read.
Json: TypeAlias = "bool | int | float | str | list[Any] | dict[str, Any] | None"

#: Which data a line belongs to.
Split: TypeAlias = Literal["train", "validation"]

#: The maximum depth of nested arrays and objects; Ground Truth writes five levels.
_MAX_DEPTH: Final = 64

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_GZIP_MAGIC: Final = b"\x1f\x8b"

#: Bytes of the longest line that is read; Ground Truth writes some thousand per image.
MAX_LINE_BYTES: Final = 8 * 2**20

#: The whole address of an object. Source: botocore's model of SageMaker, `S3Uri`.
_S3_OBJECT: Final = re.compile(r"s3://[^/]+/.+", re.DOTALL)
_MAX_URI: Final = 1024

#: Source: botocore's model of SageMaker, `AttributeNames` and `AttributeName`.
MAX_ATTRIBUTE_NAMES: Final = 16
_MAX_NAME: Final = 256

_REFERENCE_SUFFIX: Final = "-ref"


def read_json(text: bytes | str, *, what: str = "the line", number: int | None = None) -> Json:
    """Parse JSON strictly: no duplicate names, infinite numbers, lone surrogates or deep nesting.

    Args:
        text: the JSON text.
        what: the name of the text in errors.
        number: the line number of a text of one line; without it, errors give the line inside the text.

    Raises ManifestError.
    """
    data = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else bytes(text)
    try:
        value: Json = _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        raise ManifestError(_describe_encoding_error(data, error, what), line=number) from error
    except json.JSONDecodeError as error:
        problem = _describe_syntax_error(data, error, what, number)
        raise ManifestError(problem, line=number or error.lineno) from error
    except _DuplicateNameError as error:
        raise ManifestError(f"{what} has it twice", line=number, attribute=str(error)) from error
    except ValueError as error:
        raise ManifestError(f"{what} has an invalid number: {error!s:.60}", line=number) from error
    except RecursionError as error:
        raise ManifestError(f"{what} nests more than {_MAX_DEPTH} objects and arrays", line=number) from error
    if data.count(b"[") + data.count(b"{") > _MAX_DEPTH and _measure_depth(value) > _MAX_DEPTH:
        raise ManifestError(f"{what} nests more than {_MAX_DEPTH} objects and arrays", line=number)
    if b"\\ud" in data or b"\\uD" in data:
        try:
            encode_json(value)
        except UnicodeEncodeError as error:  # a lone surrogate, which JSON can escape and UTF-8 cannot encode
            half = f"\\u{ord(error.object[error.start]):x}"
            raise ManifestError(f"{what} holds {half}, half of a character", line=number) from error
    return value


def encode_json(value: object) -> bytes:
    """Encode a JSON value without blanks, in UTF-8."""
    return _ENCODER.encode(value).encode()


class _DuplicateNameError(Exception):
    """An object has a name twice; parsers disagree about which value counts."""


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _DuplicateNameError(name.encode("utf-8", "replace").decode())
            seen.add(name)
    return values


def _parse_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text:.40} is too large")
    return value


def _reject_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_build_object, parse_float=_parse_float, parse_constant=_reject_constant
)
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, check_circular=False)


def _describe_encoding_error(data: bytes, error: UnicodeDecodeError, what: str) -> str:
    if data.startswith(_GZIP_MAGIC):
        return f"{what} starts as gzip does; unpack the file first"
    return f"{what} is not UTF-8 at byte {error.start}"


def _describe_syntax_error(data: bytes, error: json.JSONDecodeError, what: str, number: int | None) -> str:
    if not data.strip():
        return f"{what} is empty"
    if data.startswith(_BYTE_ORDER_MARK):
        return f"{what} begins with a byte order mark; write the file as UTF-8 without one"
    position = error.pos + 1 if number else error.colno
    return f"{what} is not JSON: {error.msg.removesuffix(' at')} at character {position}"


def _measure_depth(value: Json) -> int:
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an augmented manifest: its number from 1 on, its attributes in order, its original bytes."""

    number: int
    attributes: Mapping[str, Json]
    text: bytes = field(default=b"", repr=False, compare=False)

    def to_bytes(self) -> bytes:
        """Encode the line in canonical form, with its line feed: no blanks, the attributes in order, UTF-8."""
        return encode_json(self.attributes) + b"\n"

    def make_error(self, attribute: str, what: str) -> ManifestError:
        """Build the error of an attribute of this line."""
        return ManifestError(what, line=self.number, attribute=attribute)


def read_lines(chunks: Iterable[Buffer], *, longest: int = MAX_LINE_BYTES) -> Iterator[Line]:
    """Yield the lines of an augmented manifest as its bytes arrive, with at most one chunk and one line in memory.

    The chunks may be cut anywhere; an open binary file works as well. Raises ManifestError, after every line before
    the damage, and whatever ``chunks`` raises.
    """
    for number, text in split_lines(chunks, longest=longest):
        yield parse_line(text, number)


def split_lines(chunks: Iterable[Buffer], *, longest: int = MAX_LINE_BYTES) -> Iterator[tuple[int, bytes]]:
    """Yield the number and the bytes of each line, without its line feed, unparsed.

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
    """Parse one line. Raises ManifestError if it is not a JSON object in UTF-8, or is ambiguous."""
    value = read_json(text, number=number)
    if isinstance(value, dict):
        return Line(number, value, text.encode() if isinstance(text, str) else bytes(text))
    is_list = isinstance(value, list)
    actual = "an array; is this a classic manifest?" if is_list else f"{encode_json(value).decode():.40}"
    raise ManifestError(f"the line must be a JSON object, found {actual}", line=number)


def check_reference(value: Json, *, local: bool = False) -> str:
    """Return what is wrong with the address of an object, "" for a valid one; ``local`` accepts paths."""
    if not isinstance(value, str) or not value:
        return "must be the address of an object, s3://bucket/key"
    if len(value) > _MAX_URI:
        return f"the address has {len(value)} characters, more than {_MAX_URI}"
    if _S3_OBJECT.fullmatch(value) or (local and "://" not in value):
        return ""
    if value.startswith("s3://"):
        return f"{value} is not the address of an object; expected s3://bucket/key"
    return f"{value:.200} is not on S3, from where SageMaker reads; expected s3://bucket/key (--local takes paths)"


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
    """Check a job's `AttributeNames`: 1 to 16 names of 1 to 256 characters each. Raises DefinitionError.

    Their order is the order of the stream. Names are case-sensitive.
    """
    if isinstance(names, str) or not 1 <= len(names) <= MAX_ATTRIBUTE_NAMES:
        actual = repr(names) if isinstance(names, str) else f"{len(names)} of them"
        raise DefinitionError(f"AttributeNames must be a list of 1 to {MAX_ATTRIBUTE_NAMES} names, found {actual}")
    for name in names:
        if not 1 <= len(name) <= _MAX_NAME or "\n" in name:
            raise DefinitionError(
                f"AttributeNames: a name is one line of 1 to {_MAX_NAME} characters, found {name[:60]!r}"
            )
    return tuple(names)


def select_attributes(line: Line, names: Sequence[str]) -> tuple[SelectedAttribute, ...]:
    """Return the attributes of a line that a job streams, in the order of the names.

    Raises ManifestError, with the line and the attribute, for a missing attribute and for an invalid reference.
    """
    return tuple([_select_attribute(line, name) for name in names])


def _select_attribute(line: Line, name: str) -> SelectedAttribute:
    if name not in line.attributes:
        raise line.make_error(name, _describe_missing(line, name))
    value = line.attributes[name]
    if not name.endswith(_REFERENCE_SUFFIX):
        return Value(encode_value(value))
    if not isinstance(value, str) or not value:
        raise line.make_error(name, "the name ends in -ref, so that the value must be the address of an object")
    return Reference(value)


def _describe_missing(line: Line, name: str) -> str:
    metadata = line.attributes.get(f"{name}-metadata")
    if isinstance(metadata, dict) and "failure-reason" in metadata:
        return f"the line does not have it; labelling failed: {metadata['failure-reason']!s:.200}"
    by_lower_case = {attribute.lower(): attribute for attribute in line.attributes}
    matches = difflib.get_close_matches(name.lower(), list(by_lower_case), n=1)
    hint = f"; did you mean {by_lower_case[matches[0]]}?" if matches else ""
    present = ", ".join(list(line.attributes)[:MAX_ATTRIBUTE_NAMES]) or "nothing"
    return f"the line does not have it{hint} (it has {present})"


def encode_value(value: Json) -> bytes:
    """Encode a value as a job streams it: a string as its own text in UTF-8, anything else as JSON without blanks.

    >>> encode_value("0"), encode_value(1), encode_value({"a": [1, 2]})
    (b'0', b'1', b'{"a":[1,2]}')
    """
    return value.encode() if isinstance(value, str) else encode_json(value)


def shuffle_order(count: int, *, seed: int, epoch: int) -> list[int]:
    """Return the numbers from 0 to ``count - 1`` in the order of an epoch, counted from 0.

    Line *i* is sorted by the SHA-256 of the text ``seed/epoch/i``, so the order can be reproduced in any language.
    Source of when to shuffle: API_ShuffleConfig; SageMaker's own algorithm is not published.
    """
    start = hashlib.sha256(f"{seed}/{epoch}/".encode())

    def hash_number(number: int) -> bytes:
        digest = start.copy()
        digest.update(str(number).encode())
        return digest.digest()

    return sorted(range(count), key=hash_number)


def assign_split(line: Line, *, fraction: float, seed: int = 0, by: str = "source-ref") -> Split:
    """Assign a line to training or validation; about ``fraction`` of all lines are validation data.

    The result depends on the seed and one attribute of the line alone, so an image keeps its split whatever else is in
    the file. With a larger fraction, all lines of the validation data remain validation data.

    Raises ManifestError if the line does not have the attribute, DefinitionError for an invalid fraction.
    """
    check_fraction(fraction)
    if by not in line.attributes:
        raise line.make_error(by, "the line does not have it, and the split depends on it")
    position = compute_split_position(encode_value(line.attributes[by]), seed)
    return "validation" if position < fraction else "train"


def compute_split_position(key: bytes, seed: int) -> float:
    """Return a key's position in [0, 1): the first 53 bits of the SHA-256 of the text ``seed/key``, over 2**53."""
    digest = hashlib.sha256(f"{seed}/".encode() + key).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def check_fraction(fraction: float) -> None:
    """Raise DefinitionError unless a fraction is from 0 to 1."""
    if not 0 <= fraction <= 1:
        raise DefinitionError(f"the fraction for validation must be from 0 to 1, found {fraction}")
