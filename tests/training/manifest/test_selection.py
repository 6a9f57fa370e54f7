"""Selection: the attributes of a job in its order, and the order of lines by seed and epoch."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.manifest_samples import CAR_LABEL, CARS, text
from tritonforge.errors import DefinitionError, ManifestError
from tritonforge.training.manifest import (
    Reference,
    Value,
    check_attribute_names,
    parse_line,
    read_lines,
    select_attributes,
    shuffle_order,
)


def test_attributes_come_in_the_order_of_their_names() -> None:
    """Seed 4's line: the image as a reference, the label as JSON text; the metadata are not asked for."""
    (line,) = read_lines([text(CARS)])
    reference, value = select_attributes(line, ("source-ref", CAR_LABEL))
    assert reference == Reference("s3://sthakur/demo/images/SSDB00004.JPG")
    assert isinstance(value, Value)
    assert value.data.startswith(b'{"annotations":[{"class_id":0,"width":162,"top":458,"height":89,"left":378},')
    assert select_attributes(line, (CAR_LABEL, "source-ref")) == (value, reference)


@pytest.mark.parametrize(
    ("json", "data"),
    [
        ('"0"', b"0"),
        ("1", b"1"),
        ("0.50", b"0.5"),
        ("true", b"true"),
        ("null", b"null"),
        ('"a \\"b\\" \\u20ac"', 'a "b" €'.encode()),
        ('{"a": [1, "x"]}', b'{"a":[1,"x"]}'),
        ("[]", b"[]"),
    ],
)
def test_a_string_is_its_text_and_the_rest_is_json(json: str, data: bytes) -> None:
    """As the developer guide has it for ``is-a-cat``: 1 is streamed as "1"."""
    assert select_attributes(parse_line(f'{{"is-a-cat": {json}}}'), ["is-a-cat"]) == (Value(data),)


def test_an_attribute_that_is_not_there_is_named_with_its_line() -> None:
    """Upper and lower case differ, and the nearest name is a hint."""
    line = parse_line(b'{"source-ref":"s3://foo/relative/path/to/data-1","label":"0"}', 7)
    with pytest.raises(ManifestError, match=r"line 7: Label: the line does not have it; did you mean label\?") as error:
        select_attributes(line, ["source-ref", "Label"])
    assert (error.value.line, error.value.attribute) == (7, "Label")
    failed = parse_line(b'{"source-ref":"s3://b/x","boxes-metadata":{"failure-reason":"ClientError: too large"}}', 8)
    with pytest.raises(ManifestError, match=r"line 8: boxes: .* labelling failed: ClientError: too large"):
        select_attributes(failed, ["boxes"])


@pytest.mark.parametrize("value", ["1", '""', "null", '["s3://b/x"]'])
def test_a_reference_must_be_an_address(value: str) -> None:
    """A name that ends in -ref is fetched, so that its value must be a text."""
    with pytest.raises(ManifestError, match=r"line 2: mask-ref: .* must be the address of an object"):
        select_attributes(parse_line(f'{{"mask-ref": {value}}}', 2), ["mask-ref"])


def test_the_names_of_a_job_are_checked() -> None:
    assert check_attribute_names(["a" * 256] * 16) == ("a" * 256,) * 16
    for wrong in ([], ["a"] * 17, [""], ["a" * 257], ["a\nb"], "source-ref"):
        with pytest.raises(DefinitionError, match="AttributeNames"):
            check_attribute_names(wrong)


def test_the_order_is_what_its_description_says() -> None:
    """SHA-256 of seed/epoch/number, so that it is the same in any program, today and later."""
    assert shuffle_order(10, seed=1, epoch=0) == [5, 1, 2, 0, 4, 7, 6, 3, 9, 8]
    by_hand = sorted(range(1000), key=lambda each: hashlib.sha256(f"42/3/{each}".encode()).digest())
    assert shuffle_order(1000, seed=42, epoch=3) == by_hand


@given(st.integers(0, 200), st.integers(), st.integers(0, 5))
def test_every_line_is_there_once(count: int, seed: int, epoch: int) -> None:
    """In another order in each epoch."""
    assert sorted(shuffle_order(count, seed=seed, epoch=epoch)) == list(range(count))
    if count > 20:
        assert shuffle_order(count, seed=seed, epoch=epoch) != shuffle_order(count, seed=seed, epoch=epoch + 1)
