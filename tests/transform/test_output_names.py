"""Keys and outputs."""

from __future__ import annotations

import pytest

from tritonforge.transform.object_store import OutputNaming, build_output_uri, build_relative_key


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
def test_outputs_are_called_after_the_key_below_the_prefix(
    uri: str, prefix: str, naming: OutputNaming, key: str
) -> None:
    """A prefix is a folder, an object or the beginning of names; one example of AWS keeps its last part."""
    assert build_relative_key(uri, prefix, naming) == key
    assert build_output_uri(key, "s3://o/out/") == f"s3://o/out/{key}.out"
