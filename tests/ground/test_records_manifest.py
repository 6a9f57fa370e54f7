"""Classic manifests: read as they arrive, and what is wrong with its line."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.errors import DecodeError, ManifestError
from tritonforge.records.manifest import ManifestElement, read_manifest_elements, read_manifest_uris

MANIFEST = json.dumps([{"prefix": "s3://b/ü/"}, "1.jpg", "a\n\u20ac/2.jpg", {"prefix": "s3://c/"}, "3.jpg"], indent=1)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("ascii_", [True, False])
def test_a_manifest_is_read_as_it_arrives(size: int, ascii_: bool) -> None:
    """Whatever the pieces are that it comes in, also where they cut a character or an escape."""
    data = json.dumps(json.loads(MANIFEST), ensure_ascii=ascii_, indent=1).encode()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert list(read_manifest_uris(pieces)) == [
        ("s3://b/ü/1.jpg", "s3://b/ü/"),
        ("s3://b/ü/a\n\u20ac/2.jpg", "s3://b/ü/"),
        ("s3://c/3.jpg", "s3://c/"),
    ]


def test_a_manifest_is_never_held_whole() -> None:
    """The first keys are there before the rest was asked for."""
    asked = []

    def pieces() -> object:
        yield b'[{"prefix": "p/"}'
        for number in range(10_000):
            asked.append(number)
            yield f', "{number}"'.encode()
        yield b"]"

    found = read_manifest_uris(pieces())  # type: ignore[arg-type]
    assert next(found) == ("p/0", "p/")
    assert len(asked) <= 2
    assert sum(1 for _ in found) == 9_999


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b"[]",
        b"[1]",
        b'["a"]',
        b'[{"prefix": "p"}, "a"',
        b'[{"prefix": "p"} "a"]',
        b'[{"prefix": "p"}, ""]',
        b'[{"prefix": "p"}, {"other": 1}]',
        b'[{"prefix": "p"}, "a"] x',
        b'[{"prefix": "p"}, "\xff"]',
        b'[{"prefix": "p"}, "a',
    ],
)
def test_a_manifest_that_is_none_is_one_error(data: bytes) -> None:
    """After what came before the damage."""
    with pytest.raises(ManifestError, match="the manifest"):
        list(read_manifest_uris([data]))


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_a_manifest_or_one_error(data: bytes, size: int) -> None:
    """Nothing else comes out, and it ends."""
    pieces = [b'[{"prefix":"p"},', *(data[start : start + size] for start in range(0, len(data), size))]
    with contextlib.suppress(ManifestError):
        list(read_manifest_uris(pieces))


def test_large_pieces_may_end_anywhere() -> None:
    """Also where they cut a key far from their beginning."""
    keys = [f"folder/{number:06}" for number in range(20_000)]
    data = json.dumps([{"prefix": "p/"}, *keys]).encode()
    pieces = [data[start : start + 99_991] for start in range(0, len(data), 99_991)]
    assert [uri for uri, _ in read_manifest_uris(pieces)] == [f"p/{key}" for key in keys]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_each_element_has_its_line(size: int) -> None:
    data = b'[\n\n {"prefix":\n "p/"}, "a",\r\n"b\\n"\n,\n 5 }'
    found = read_manifest_elements([data[start : start + size] for start in range(0, len(data), size)])
    elements = [next(found) for _ in range(4)]
    assert elements == [
        ManifestElement(3, {"prefix": "p/"}),
        ManifestElement(4, "a"),
        ManifestElement(5, "b\n"),
        ManifestElement(7, 5),
    ]
    with pytest.raises(DecodeError, match="line 7: the manifest is not JSON: expected , or ]") as error:
        next(found)
    assert isinstance(error.value, ManifestError)
    assert (error.value.line, error.value.exit_code) == (7, 2)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b'["a"]', 'line 1: the manifest must begin with {"prefix": "s3://bucket/folder/"}'),
        (b'[{"prefix": "p"},\n ""]', 'line 2: the manifest holds ""; expected a key, or {"prefix": "..."}'),
        (b'[{"prefix": "p", "a": 1}]', 'line 1: the manifest holds {"prefix": "p", "a": 1}; expected a key'),
        (b'[{"prefix": 5}]', 'line 1: the manifest holds {"prefix": 5}; expected a key'),
        (b"[]", "the manifest is empty"),
        (b"{", "line 1: the manifest must be a JSON array"),
        (b"\n[] 5", "line 2: the manifest continues after its end, at character 4"),
    ],
)
def test_what_is_wrong_is_reported(data: bytes, what: str) -> None:
    """With its line, where one is to blame."""
    with pytest.raises(ManifestError) as error:
        list(read_manifest_uris([data]))
    assert str(error.value).startswith(what)
