"""The reader of tf.Example messages that the handlers of `repos/resnet50_tfs` bring along."""

from __future__ import annotations

import contextlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonforge.triton.schema import OPTIONAL, REPEATED, build_message_class

FILE = Path(__file__).parents[2] / "repos" / "resnet50_tfs" / "code" / "lib" / "tfexample.py"
KEY = "image/encoded"

#: tensorflow/core/example/example.proto, feature.proto.
MESSAGES = {
    "BytesList": ((1, REPEATED, "bytes", "value", None),),
    "FloatList": ((1, REPEATED, "float", "value", None),),
    "Int64List": ((1, REPEATED, "int64", "value", None),),
    "Feature": (
        (1, OPTIONAL, "BytesList", "bytes_list", None),
        (2, OPTIONAL, "FloatList", "float_list", None),
        (3, OPTIONAL, "Int64List", "int64_list", None),
    ),
    "Entry": ((1, OPTIONAL, "string", "key", None), (2, OPTIONAL, "Feature", "value", None)),
    "Features": ((1, REPEATED, "Entry", "feature", None),),
    "Example": ((1, OPTIONAL, "Features", "features", None),),
}
EXAMPLE = build_message_class("tfexample_test", MESSAGES, "Example")

#: Framed by TensorFlow's own writer.
HELLO = bytes.fromhex("0500000000000000eab2043e68656c6c6fbb1f1c19")
EMPTY = bytes.fromhex("000000000000000029039807d8ea82a2")


@pytest.fixture(scope="module")
def tfexample() -> ModuleType:
    """The module, imported from where it lies."""
    spec = importlib.util.spec_from_file_location("tfexample", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def example(features: dict[str, Any]) -> bytes:
    """A serialised Example: a feature's values are all bytes, all floats or all integers."""
    made = EXAMPLE()
    for key, values in features.items():
        feature = made.features.feature.add(key=key).value
        kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}[type(values[0])]
        getattr(feature, kind).value.extend(values)
    return bytes(made.SerializeToString())


VALUES = (
    st.lists(st.binary(max_size=300), min_size=1, max_size=3)
    | st.lists(st.floats(width=32), min_size=1, max_size=3)
    | st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=3)
)


@pytest.mark.slow
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), st.lists(st.binary(max_size=300), min_size=1))
def test_the_first_bytes_of_the_feature_are_found(
    tfexample: ModuleType, others: dict[str, Any], images: list[bytes]
) -> None:
    """Whatever lies beside it."""
    assert tfexample.value(example({**others, KEY: images}), KEY) == images[0]


@pytest.mark.parametrize(
    "message",
    [b"", example({"other": [b"x"]}), example({KEY: [1]}), example({KEY: [1.0]}), b"\xff\xd8\xff\xe0", b"\x0b"],
)
def test_what_has_no_image_is_one_error(tfexample: ModuleType, message: bytes) -> None:
    """Another message, another kind of feature, no message at all."""
    with pytest.raises(ValueError, match=r"no bytes with the key|cut off|none of protobuf's|ends after"):
        tfexample.value(message, KEY)


@given(st.binary(max_size=100))
def test_any_bytes_give_a_value_or_one_error(tfexample: ModuleType, message: bytes) -> None:
    """Damaged messages raise ValueError and nothing else."""
    with contextlib.suppress(ValueError):
        assert isinstance(tfexample.value(message, KEY), bytes)


def test_a_message_that_is_cut_anywhere_is_refused(tfexample: ModuleType) -> None:
    """No prefix of a message gives its image."""
    message = example({"a": [1, 2], KEY: [b"\xff\xd8" * 200]})
    for end in range(len(message)):
        with pytest.raises(ValueError, match=r"cut off|ends after|no bytes"):
            tfexample.value(message[:end], KEY)


def test_records_are_recognised_by_their_framing(tfexample: ModuleType) -> None:
    """One bare message is itself; framed ones are taken apart, as TensorFlow's writer made them."""
    bare = example({KEY: [b"x"]})
    assert tfexample.split(bare) == [bare]
    assert tfexample.split(b"") == [b""]
    assert tfexample.split(HELLO) == [b"hello"]
    assert tfexample.split(EMPTY + HELLO + EMPTY + HELLO) == [b"", b"hello", b"", b"hello"]


def test_records_that_are_cut_off_are_refused_with_the_place(tfexample: ModuleType) -> None:
    """The byte where the record begins that is not whole, or where none begins."""
    with pytest.raises(ValueError, match="the TFRecord at byte 21 is cut off"):
        tfexample.split(HELLO + HELLO[:-1])
    with pytest.raises(ValueError, match="there is no TFRecord at byte 21"):
        tfexample.split(HELLO + b"more")
