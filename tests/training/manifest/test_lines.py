"""Lines: what is read is what is written, whatever the pieces, and damage is one error with its line."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.manifest_samples import ADJUSTED, CARS, OTHERS, SEGMENTS, SPECIES, THINGS, text, values
from tritonforge.errors import DecodeError, ManifestError
from tritonforge.training.manifest import Line, parse_line, read_lines

ALL = [CARS, SPECIES, THINGS, SEGMENTS, ADJUSTED, *OTHERS]


@pytest.mark.parametrize("size", [1, 7, 64, 10_000])
def test_lines_are_read_whatever_the_pieces(size: int) -> None:
    """Numbers count from 1; attributes keep their order; the last line needs no line feed."""
    data = text(*ALL)[:-1]
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    lines = list(read_lines(pieces))
    assert [line.number for line in lines] == list(range(1, len(ALL) + 1))
    assert [list(line.attributes.items()) for line in lines] == [list(line.items()) for line in ALL]
    assert b"".join(line.text + b"\n" for line in lines) == data + b"\n"


def test_an_open_file_is_a_stream_of_chunks(tmp_path: Any) -> None:
    """As it gives lines, each with its line feed."""
    path = tmp_path / "m"
    path.write_bytes(text(CARS, SPECIES))
    with path.open("rb") as file:
        assert [line.attributes for line in read_lines(file)] == [CARS, SPECIES]


def test_what_is_written_is_canonical() -> None:
    """No blanks, no escapes but those that JSON needs, the order as it was; and it reads as the same line."""
    line = parse_line('{ "b" : [1, 2.50],\t"a": "\\u00fc\\n" }', 3)
    assert line.to_bytes() == '{"b":[1,2.5],"a":"ü\\n"}\n'.encode()
    assert parse_line(line.to_bytes(), 3) == line


def test_a_manifest_is_never_held_whole() -> None:
    """The first line is there before the third chunk was asked for, and so on to the end."""
    asked = 0

    def chunks() -> Iterator[bytes]:
        nonlocal asked
        for number in range(5_000):
            asked += 1
            yield text({"source-ref": f"s3://b/{number}"})

    for line in read_lines(chunks()):
        assert asked - line.number <= 1
    assert asked == 5_000


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (b"", "the line is empty"),
        (b"  \t", "the line is empty"),
        (b'{"a": 1', "the line is not JSON: Expecting ',' delimiter at character 8"),
        (b'{"a": "1', "the line is not JSON: Unterminated string starting at character 7"),
        (b"[1]", "must be a JSON object, found an array; is this a classic manifest?"),
        (b"17", "must be a JSON object, found 17"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "c: the line has it twice"),
        (b'{"a": NaN}', "has an invalid number: NaN"),
        (b'{"a": 1e999}', "has an invalid number: 1e999"),
        (b'{"a": ' + b"9" * 5000 + b"}", "has an invalid number"),
        (b'{"a": "\\ud800"}', "holds \\ud800, half of a character"),
        (b'{"a": "\xff"}', "is not UTF-8 at byte 7"),
        (b"\x1f\x8b\x08rest", "starts as gzip does; unpack the file first"),
        (b"\xef\xbb\xbf{}", "begins with a byte order mark"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "nests more than 64 objects and arrays"),
        (b"[" * 200_000, "nests more than 64 objects and arrays"),
    ],
)
def test_damage_is_one_error_after_what_came_before(bad: bytes, what: str) -> None:
    found = read_lines([text(CARS), bad + b"\n", text(SPECIES)])
    assert next(found).attributes == CARS
    with pytest.raises(ManifestError) as error:
        next(found)
    assert error.value.line == 2
    assert error.value.exit_code == 2
    assert isinstance(error.value, DecodeError)
    assert str(error.value).startswith("line 2: ")
    assert what in str(error.value)


def test_what_is_allowed_at_the_border_is_read() -> None:
    """64 objects in each other, a whole surrogate pair, a line that ends in a carriage return."""
    deep = b'{"a":' * 64 + b"1" + b"}" * 64
    assert parse_line(deep).text == deep
    assert parse_line(deep[:-1] + b',"b":[]}').text.endswith(b'"b":[]}')  # more of them, and not deeper
    assert parse_line(b'{"a": "\\ud83d\\ude00"}').attributes == {"a": "😀"}
    assert parse_line(b'{"a": 1}\r').attributes == {"a": 1}


def test_a_line_without_end_is_an_error_before_memory_is_asked_for_it() -> None:
    """The line before it was given out, and the chunks after the limit are not read."""
    asked = 0

    def chunks() -> Iterator[bytes]:
        nonlocal asked
        yield text(CARS)
        while True:
            asked += 1
            yield b"x" * 1000

    found = read_lines(chunks(), longest=10_000)
    assert next(found).attributes == CARS
    with pytest.raises(ManifestError, match="line 2: the line is longer than 10000 bytes; nothing after it was read"):
        next(found)
    assert asked <= 11


@pytest.mark.slow
@given(st.dictionaries(st.text(), values, max_size=6))
def test_any_object_survives_a_round_trip(attributes: dict[str, Any]) -> None:
    """Also what no rule is known for: unknown keys, any text, any number."""
    line = Line(1, attributes)
    (again,) = read_lines([line.to_bytes()])
    assert again == line
    assert list(again.attributes) == list(attributes)
    assert json.dumps(again.attributes) == json.dumps(attributes)  # which distinguishes 1, 1.0 and True


@given(st.binary(max_size=300) | st.text(max_size=100).map(lambda each: ('{"a":"' + each).encode("utf-8", "replace")))
def test_any_bytes_are_lines_or_one_error(data: bytes) -> None:
    """Nothing else comes out, and what came out can be written."""
    with contextlib.suppress(ManifestError):
        for line in read_lines([data[:50], data[50:]], longest=200):
            assert line.to_bytes()
