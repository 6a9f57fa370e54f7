"""tf.train.Example without TensorFlow: values survive, equal values give equal bytes, bad ones are one error."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tritonforge.errors import DecodeError, EncodeError
from tritonforge.records import decode_example, encode_example

FLOATS = st.floats(width=32, allow_nan=False)
VALUES = (
    st.lists(st.binary(max_size=8), max_size=3)
    | st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3)
    | st.lists(FLOATS, max_size=3)
)
NAMES = st.text(st.characters(codec="utf-8"), max_size=8)


@pytest.mark.slow
@settings(deadline=None)
@given(features=st.dictionaries(NAMES, VALUES, max_size=4))
def test_features_survive_the_round_trip(features: dict[str, Any]) -> None:
    """Every feature comes back as a tuple of what it held."""
    found = decode_example(encode_example(features))
    assert found == {name: tuple(values) for name, values in features.items()}
    for name, values in features.items():
        assert [type(value) for value in found[name]] == [type(value) for value in values]


@settings(deadline=None)
@given(features=st.dictionaries(NAMES, VALUES, min_size=2, max_size=4))
def test_equal_features_give_equal_bytes(features: dict[str, Any]) -> None:
    """The order in which they are given does not matter."""
    assert encode_example(dict(reversed(features.items()))) == encode_example(features)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"x", (b"x",)),
        (bytearray(b"x"), (b"x",)),
        (memoryview(b"x"), (b"x",)),
        ("é", ("é".encode(),)),
        ([b"x", "y"], (b"x", b"y")),
        (7, (7,)),
        (True, (1,)),
        (0.5, (0.5,)),
        ([1, 0.5], (1.0, 0.5)),
        (np.int64(7), (7,)),
        (np.float32(0.5), (0.5,)),
        (np.arange(3), (0, 1, 2)),
        (np.array([0.5, 1]), (0.5, 1.0)),
        ((), ()),
        (np.empty(0), ()),
    ],
)
def test_a_value_or_a_sequence_is_encoded(value: Any, expected: Any) -> None:
    """One value is a list of one; numpy's numbers are numbers."""
    assert decode_example(encode_example({"feature": value})) == {"feature": expected}


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        ({"x": [b"a", 1]}, "feature 'x': its values are of more than one kind: bytes_list, int64_list"),
        ({"x": [None]}, "feature 'x': expected bytes, text or numbers, found NoneType"),
        ({"x": np.zeros((2, 2))}, "feature 'x': expected bytes, text or numbers, found ndarray"),
        ({"x": 2**63}, "feature 'x': "),
        ({"\ud800": 1}, "feature '\\ud800': "),
        ({"x": "\ud800"}, "feature 'x': "),
        ({"x": None}, "feature 'x': expected a value or a sequence of values, found NoneType"),
        ({1: b"x"}, "feature 1: 'int' object"),
    ],
)
def test_what_an_example_cannot_hold_is_refused(features: Any, sentence: str) -> None:
    """The error names the feature."""
    with pytest.raises(EncodeError) as caught:
        encode_example(features)
    assert sentence in str(caught.value)


def test_an_image_is_taken_out_of_a_view() -> None:
    """What `split` gives can be decoded as it is; packed and unpacked numbers are both read."""
    encoded = b"\xff\xd8" + bytes(1000)
    view = memoryview(b"x" + encode_example({"image/encoded": encoded, "image/class/label": 7}))[1:]
    assert decode_example(view) == {"image/encoded": (encoded,), "image/class/label": (7,)}
    packed = bytes.fromhex("0a0e0a0c0a016112071a050a03010203")
    assert decode_example(packed) == {"a": (1, 2, 3)}
    unpacked = bytes.fromhex("0a0f0a0d0a016112081a06080108020803")
    assert decode_example(unpacked) == {"a": (1, 2, 3)}


def test_a_duplicate_name_counts_once() -> None:
    """The last one is taken, as in any protobuf map."""
    twice = encode_example({"a": 1}) + encode_example({"a": 2})
    assert decode_example(twice) == {"a": (2,)}


@pytest.mark.parametrize(
    "data",
    [b"\xff\xd8\xff\xe0", b"\x0a\x05ab", encode_example({"a": b"abc"})[:-1], b"\x0a\x06\x0a\x04\x0a\x02\xff\xff"],
)
def test_what_is_no_example_is_one_error(data: bytes) -> None:
    """The sentence says what was expected."""
    with pytest.raises(DecodeError, match=r"expected a serialised tf\.train\.Example"):
        decode_example(data)


def test_a_feature_of_two_kinds_is_an_error() -> None:
    """The format allows one."""
    with pytest.raises(DecodeError, match="feature 'a' is of more than one kind: bytes_list, int64_list"):
        decode_example(bytes.fromhex("0a0b0a090a016112040a001a00"))


@settings(deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_decode_or_are_one_error(data: bytes) -> None:
    """Nothing but DecodeError comes out."""
    with suppress(DecodeError):
        decode_example(data)
