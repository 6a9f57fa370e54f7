"""A `tf.train.Example`: named features, each a list of bytes, floats or integers. Works without TensorFlow. No I/O.

Source: TensorFlow, core/example/example.proto and feature.proto.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from google.protobuf.message import DecodeError as ProtobufDecodeError

from tritonforge.errors import DecodeError, EncodeError
from tritonforge.records.stream import Buffer
from tritonforge.triton.schema import OPTIONAL, REPEATED, Field, build_message_class

__all__ = ["Feature", "FeatureValue", "decode_example", "encode_example"]

#: A decoded feature.
Feature: TypeAlias = "tuple[bytes, ...] | tuple[int, ...] | tuple[float, ...]"

#: A feature to encode: one value, or a sequence of values of one kind. Text is encoded as UTF-8.
FeatureValue: TypeAlias = "Buffer | str | int | float | Sequence[Buffer | str] | Sequence[int] | Sequence[float]"

_TEXT: Final = (bytes, bytearray, memoryview, str)
_KINDS: Final = ("bytes_list", "float_list", "int64_list")

_SCHEMA: Final[Mapping[str, Sequence[Field]]] = {
    "BytesList": [(1, REPEATED, "bytes", "value", None)],
    "FloatList": [(1, REPEATED, "float", "value", None)],
    "Int64List": [(1, REPEATED, "int64", "value", None)],
    "Feature": [
        (1, OPTIONAL, "BytesList", "bytes_list", None),
        (2, OPTIONAL, "FloatList", "float_list", None),
        (3, OPTIONAL, "Int64List", "int64_list", None),
    ],
    "Entry": [(1, OPTIONAL, "bytes", "key", None), (2, OPTIONAL, "Feature", "value", None)],
    "Features": [(1, REPEATED, "Entry", "feature", None)],
    "Example": [(1, OPTIONAL, "Features", "features", None)],
}


@lru_cache(maxsize=1)
def _example_class() -> Any:
    return build_message_class("tensorflow", _SCHEMA, "Example")


def encode_example(features: Mapping[str, FeatureValue]) -> bytes:
    """Serialise features as one Example, in the order of their names: equal features give equal bytes.

    Integers (and booleans) become an Int64List, other numbers a FloatList, bytes and text a BytesList; an empty
    sequence becomes a feature without a kind. Raises EncodeError.
    """
    message = _example_class()()
    name = ""
    try:
        for name in sorted(features):
            entry = message.features.feature.add(key=name.encode())
            entry.value.SetInParent()
            _fill_feature(entry.value, features[name])
    except (AttributeError, TypeError, ValueError, OverflowError) as error:  # of protobuf, and of _fill_feature
        raise EncodeError(f"feature {name!r}: {error}") from error
    encoded: bytes = message.SerializeToString(deterministic=True)
    return encoded


def _fill_feature(feature: Any, value: Any) -> None:
    if isinstance(value, (*_TEXT, numbers.Real)):
        value = (value,)
    if not isinstance(value, Iterable):
        raise TypeError(f"expected a value or a sequence of values, found {type(value).__name__}")
    kinds: set[str] = set()
    plain: list[Any] = []
    for item in value:
        if isinstance(item, _TEXT):
            kinds.add("bytes_list")
            plain.append(item.encode() if isinstance(item, str) else bytes(item))
        elif isinstance(item, numbers.Integral):
            kinds.add("int64_list")
            plain.append(int(item))
        elif isinstance(item, numbers.Real):
            kinds.add("float_list")
            plain.append(float(item))
        else:
            raise TypeError(f"expected bytes, text or numbers, found {type(item).__name__}")
    if kinds == {"int64_list", "float_list"}:
        kinds = {"float_list"}  # protobuf converts the integers among them to floats
    if len(kinds) > 1:
        raise TypeError(f"its values are of more than one kind: {', '.join(sorted(kinds))}")
    for kind in kinds:
        getattr(feature, kind).value.extend(plain)


def decode_example(data: Buffer) -> dict[str, Feature]:
    """Parse the features of a serialised Example, each as a tuple; a feature without a kind is empty.

    Of features with the same name the last one counts, as in any protobuf map. Raises DecodeError.
    """
    try:
        message = _example_class().FromString(bytes(data))
    except ProtobufDecodeError as error:
        raise DecodeError(f"expected a serialised tf.train.Example, found {len(data)} other bytes") from error
    features: dict[str, Feature] = {}
    for entry in message.features.feature:
        kinds = [kind for kind in _KINDS if entry.value.HasField(kind)]
        if len(kinds) > 1:
            raise DecodeError(f"feature {_decode_name(entry.key)!r} is of more than one kind: {', '.join(kinds)}")
        features[_decode_name(entry.key)] = tuple(getattr(entry.value, kinds[0]).value) if kinds else ()
    return features


def _decode_name(key: bytes) -> str:
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(f"expected a serialised tf.train.Example, found a feature whose name is {key!r}") from error
