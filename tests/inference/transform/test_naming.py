"""Keys, outputs and manifests."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.errors import DecodeError
from tritonforge.inference.transform.naming import Naming, manifest_uris, output_uri, relative_key


@pytest.mark.parametrize(
    ("uri", "prefix", "naming", "key"),
    [
        ("s3://b/in/a/1.jpg", "s3://b/in/", "relative", "a/1.jpg"),
        ("s3://b/in/a/1.jpg", "s3://b/in", "relative", "a/1.jpg"),
        ("s3://b/in/1.jpg", "s3://b/in/1.jpg", "relative", "1.jpg"),
        ("s3://b/in/part-1", "s3://b/in/part-", "relative", "part-1"),
        ("s3://b/1.jpg", "s3://b", "relative", "1.jpg"),
        ("s3://b/in//1.jpg", "s3://b/in/", "relative", "/1.jpg"),
        ("in/1.jpg", "in", "relative", "1.jpg"),
        ("1.jpg", "1.jpg", "relative", "1.jpg"),
        ("s3://b/in/a/1.jpg", "s3://b/in/", "whole", "in/a/1.jpg"),
        ("s3://b/1.jpg", "s3://b/", "whole", "1.jpg"),
        ("s3://b/x/in/1.jpg", "s3://b/x/in/1.jpg", "whole", "in/1.jpg"),
    ],
)
def test_outputs_are_called_after_the_key_below_the_prefix(uri: str, prefix: str, naming: Naming, key: str) -> None:
    """A prefix is a folder, an object or the beginning of names; one example of AWS keeps its last part."""
    assert relative_key(uri, prefix, naming) == key
    assert output_uri(key, "s3://o/out/") == f"s3://o/out/{key}.out"


MANIFEST = json.dumps([{"prefix": "s3://b/ü/"}, "1.jpg", "a\n\u20ac/2.jpg", {"prefix": "s3://c/"}, "3.jpg"], indent=1)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("ascii_", [True, False])
def test_a_manifest_is_read_as_it_arrives(size: int, ascii_: bool) -> None:
    """Whatever the pieces are that it comes in, also where they cut a character or an escape."""
    data = json.dumps(json.loads(MANIFEST), ensure_ascii=ascii_, indent=1).encode()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert list(manifest_uris(pieces)) == [
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

    found = manifest_uris(pieces())  # type: ignore[arg-type]
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
    with pytest.raises(DecodeError, match="the manifest"):
        list(manifest_uris([data]))


@given(st.binary(max_size=200), st.integers(1, 50))
def test_any_bytes_are_a_manifest_or_one_error(data: bytes, size: int) -> None:
    """Nothing else comes out, and it ends."""
    pieces = [b'[{"prefix":"p"},', *(data[start : start + size] for start in range(0, len(data), size))]
    with contextlib.suppress(DecodeError):
        list(manifest_uris(pieces))
