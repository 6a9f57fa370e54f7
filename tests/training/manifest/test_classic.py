"""Classic manifests: checked line by line, and joined with labels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.manifest_samples import text
from tritonforge.errors import ManifestError
from tritonforge.training.manifest import Problem, build_augmented_lines, check_classic_manifest, read_classic_uris

#: The one that seed 4 shows, without its dots.
SEED = b"""[
    {"prefix":"s3://foo/"},
  "relative/path/to/data-1",
  "relative/path/to/data-2"
]
"""
URIS = ["s3://foo/relative/path/to/data-1", "s3://foo/relative/path/to/data-2"]


def test_the_seeds_manifest_becomes_the_seeds_lines() -> None:
    """Both as seed 4 shows them, with labels "0" and "1" from a list, and from a function."""
    assert list(check_classic_manifest([SEED])) == []
    assert list(read_classic_uris([SEED])) == URIS
    expected = text(
        {"source-ref": "s3://foo/relative/path/to/data-1", "label": "0"},
        {"source-ref": "s3://foo/relative/path/to/data-2", "label": "1"},
    ).replace(b" ", b"")
    assert (
        b"".join(line.to_bytes() for line in build_augmented_lines(read_classic_uris([SEED]), ["0", "1"])) == expected
    )
    by_name = build_augmented_lines(URIS, lambda uri: str(int(uri[-1]) - 1))
    assert [line.number for line in by_name] == [1, 2]
    assert (
        b"".join(line.to_bytes() for line in build_augmented_lines(URIS, lambda uri: str(int(uri[-1]) - 1))) == expected
    )


def test_labels_and_objects_must_be_as_many() -> None:
    """What they have together comes first; then the error says which list is the longer one."""
    lines = build_augmented_lines(iter(URIS), ["0"])
    assert next(lines).attributes == {"source-ref": URIS[0], "label": "0"}
    with pytest.raises(ManifestError, match=r"there are 1 labels, and more objects; .*data-2 has none"):
        next(lines)
    with pytest.raises(ManifestError, match="there are more labels than objects, of which there are 2"):
        list(build_augmented_lines(URIS, iter("0120")))
    with pytest.raises(ManifestError, match="there are more labels than objects, of which there are 0"):
        list(build_augmented_lines([], ["0"]))
    with pytest.raises(ManifestError, match="source-ref: the label needs a name of its own"):
        next(build_augmented_lines(URIS, ["0", "1"], label="source-ref"))


KEY = "is not a key; expected the rest of an address"


@pytest.mark.parametrize(
    ("lines", "problems"),
    [
        (['{"prefix": ""}', '"a"'], [(2, "prefix", "'' is not a prefix on S3; expected s3://bucket/folder/")]),
        (['{"prefix": "s3://"}', '"a"'], [(2, "prefix", "'s3://' is not a prefix on S3; expected s3://bucket/folder/")]),
        (['{"prefix": "/data/"}', '"a"'], [(2, "prefix", "'/data/' is not a prefix on S3; expected s3://bucket/folder/")]),
        (['"a"', '"b"'], [(2, "prefix", 'the manifest must begin with {"prefix": "s3://bucket/folder/"}')]),
        (['{"prefix": "s3://b/"}'], [(None, "", "the manifest lists no object")]),
        ([], [(None, "", "the manifest is empty")]),
        (['{"prefix": "s3://b/"}', '""', "5", '{"a": 1}', '"ok"'],
         [(3, "", f'"" {KEY}'), (4, "", f"5 {KEY}"),
          (5, "", '{"a": 1} is neither a key nor {"prefix": "s3://bucket/folder/"}')]),
        (['{"prefix": "s3://b/"}', '"a"', '{"prefix": "s3://c/"}', '"a"'],
         [(4, "prefix", "SageMaker reads one prefix, which is the first element")]),
        (['{"prefix": "s3://b/"}', json.dumps("k" * 1019)], [(3, "", "the address has more than 1024 characters")]),
        (['{"prefix": "s3://b/"}', json.dumps("k" * 1017)], []),
        (['{"prefix": "s3://b/"}', '"a" "b"'], [(3, "", "the manifest is not JSON: expected , or ] at character 29")]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 5, 4096])
def test_all_problems_with_their_lines(lines: list[str], problems: list[tuple[Any, ...]], size: int) -> None:
    data = ("[\n" + ",\n".join(lines) + "\n]").encode()
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    assert list(check_classic_manifest(pieces)) == [Problem(*problem) for problem in problems]


def test_a_prefix_may_be_a_folder_of_this_machine_where_that_is_allowed() -> None:
    """As for references."""
    assert list(check_classic_manifest([b'[{"prefix": "data/"}, "a"]'], local=True)) == []


def test_a_manifest_that_is_none_has_the_line_of_the_damage() -> None:
    """Also for who only reads it."""
    with pytest.raises(ManifestError, match="line 3: the manifest is not JSON") as error:
        list(read_classic_uris([b'[\n{"prefix": "s3://b/"},\n"a', b'"x\n]']))
    assert error.value.line == 3
