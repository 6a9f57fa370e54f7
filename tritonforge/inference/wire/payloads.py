"""A payload: the body of one request or response, as buffers to be sent one after another. This module does no I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tritonforge.errors import DecodeError, EncodeError
from tritonforge.inference.wire.documents import Parameter, dump, is_unicode
from tritonforge.inference.wire.tensors import Array, Buffer, as_array, datatype_of, to_binary, to_json

__all__ = ["Payload", "assembled", "encode_tensor", "in_binary", "split"]


@dataclass(frozen=True, slots=True)
class Payload:
    """The body of a request or response: a JSON header, then the binary tensors.

    ``buffers`` are to be sent one after another; they are views of the caller's arrays, which must not change before
    they are sent. ``header_length`` is the size of the JSON header in bytes, 0 for a raw body.
    """

    buffers: tuple[Buffer, ...]
    header_length: int

    @property
    def size(self) -> int:
        """The size of the whole body in bytes."""
        return sum(map(len, self.buffers))

    @property
    def is_json(self) -> bool:
        """Whether the body is JSON from end to end: nothing follows the header."""
        return self.header_length > 0 and self.header_length == self.size

    @property
    def body(self) -> bytes:
        """The whole body in one piece; each call joins the buffers, which copies them once."""
        return b"".join(self.buffers)


def in_binary(names: Collection[str], binary: bool | Collection[str]) -> frozenset[str]:
    """The tensors that go in binary form: ``binary`` is one answer for all, or the names of those that do."""
    if isinstance(binary, bool):
        return frozenset(names if binary else ())
    chosen = frozenset((binary,) if isinstance(binary, str) else binary)
    if unknown := sorted(chosen - set(names)):
        raise EncodeError(f"binary: {unknown[0]!r} is none of the tensors {list(names)}")
    return chosen


def encode_tensor(
    name: str,
    value: object,
    *,
    binary: bool,
    parameters: dict[str, Parameter],
    buffers: list[Buffer],
    shape_first: bool,
) -> dict[str, Any]:
    """The JSON entry of one tensor; what goes in binary form is appended to ``buffers``.

    Requests write the shape before the datatype as tritonclient does, responses after it as Triton does.
    """
    if not isinstance(name, str) or not name or not is_unicode(name):
        raise EncodeError(f"a tensor's name must be a Unicode string that is not empty, found {name!r}")
    array: Array = as_array(name, value)
    datatype = datatype_of(name, array)
    entry: dict[str, Any] = {"name": name}
    if shape_first:
        entry["shape"] = array.shape
    entry["datatype"] = datatype.wire
    if not shape_first:
        entry["shape"] = array.shape
    if binary:
        pieces = to_binary(name, array, datatype)
        entry["parameters"] = {**parameters, "binary_data_size": sum(map(len, pieces))}
        buffers += pieces
        return entry
    if parameters:
        entry["parameters"] = parameters
    entry["data"] = to_json(name, array, datatype)
    return entry


def assembled(document: Mapping[str, Any], buffers: Sequence[Buffer], *, header_size: int | None) -> Payload:
    """The payload of a JSON document and its tensors; the header is padded with spaces to ``header_size`` bytes."""
    header = dump(document)
    if header_size is not None:
        if len(header) > header_size:
            raise EncodeError(f"the JSON header has {len(header)} bytes; it does not fit in header_size={header_size}")
        header = header.ljust(header_size)
    return Payload((header, *buffers), len(header))


def split(body: Buffer, header_length: int | None, *, what: str) -> tuple[memoryview | bytes, int]:
    """The JSON text at the start of the body, and where the binary tensors start; None means that all is JSON.

    Range and sentence: http_server.cc and sagemaker_server.cc, ``GetInferenceHeaderLength``.
    """
    if header_length is None or header_length == len(body):
        return body, len(body)
    if not 0 <= header_length <= len(body):
        raise DecodeError(f"{what}: the header size should be in range (0, {len(body)}), got: {header_length}")
    return memoryview(body)[:header_length], header_length
