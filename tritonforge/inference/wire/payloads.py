"""A payload: the body of a request or response, and the headers that state where its JSON ends. It does no I/O.

A body is a JSON header and then the binary tensors, back to back in the order of their entries. Triton's own HTTP front
end reads the size of the JSON header from ``Inference-Header-Content-Length`` and ignores the content type; the
SageMaker front end reads it from the content type and ignores that header. Sources: ``GetInferenceHeaderLength`` in
Triton's http_server.cc and sagemaker_server.cc. Where both are lost, the body itself has it (`find_header_length`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.errors import DecodeError, EncodeError
from tritonforge.inference.wire.documents import (
    Parameter,
    dump,
    is_unicode,
    load_first,
    read_list,
    read_object,
    read_parameters,
    read_shape,
    read_string,
    read_unsigned,
)
from tritonforge.inference.wire.tensors import (
    Array,
    Buffer,
    as_array,
    datatype_of,
    from_binary,
    from_json,
    read_datatype,
    to_binary,
    to_json,
)

__all__ = ["INFERENCE_HEADER_CONTENT_LENGTH", "JSON", "OCTET_STREAM", "SAGEMAKER_BINARY_JSON", "Payload",
           "build_payload", "choose_binary", "encode_tensor", "find_header_length", "header_length", "read_tensors",
           "sagemaker_content_type", "sagemaker_header_length", "sagemaker_headers", "split_body",
           "triton_header_length", "triton_headers"]  # fmt: skip


INFERENCE_HEADER_CONTENT_LENGTH: Final = "Inference-Header-Content-Length"
#: The literal that the SageMaker front end searches for: no blank after ``;``, no capitals.
SAGEMAKER_BINARY_JSON: Final = "application/vnd.sagemaker-triton.binary+json;json-header-size="
JSON: Final = "application/json"
OCTET_STREAM: Final = "application/octet-stream"

#: What C's strtol reads: blanks, a sign, digits; what follows is ignored.
_NUMBER: Final = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]{1,18})(?![0-9])")


def sagemaker_content_type(payload: Payload) -> str:
    """Return the content type of a payload for the SageMaker front end.

    >>> sagemaker_content_type(Payload((b"an image",), 0))
    'application/vnd.sagemaker-triton.binary+json;json-header-size=0'
    """
    return JSON if payload.is_json else f"{SAGEMAKER_BINARY_JSON}{payload.header_length}"


def sagemaker_headers(payload: Payload) -> dict[str, str]:
    """Return the headers of a payload for the SageMaker front end."""
    return {"Content-Type": sagemaker_content_type(payload)}


def triton_headers(payload: Payload) -> dict[str, str]:
    """Return the headers of a payload for Triton's own HTTP front end."""
    if payload.is_json:
        return {"Content-Type": JSON}
    return {"Content-Type": OCTET_STREAM, INFERENCE_HEADER_CONTENT_LENGTH: str(payload.header_length)}


def sagemaker_header_length(content_type: str | None, *, size: int) -> int | None:
    """Return the header length in a content type for a body of ``size`` bytes, None where all of it is JSON.

    As the real server reads it: the literal must be at the start, and without it the body is JSON; a sign, blanks
    before and anything after the number are ignored. Unlike in Triton up to 2.69, which reads it as 0, a length that
    is not a number is an error, as in later releases. Raises DecodeError.
    """
    at = (content_type or "").find(SAGEMAKER_BINARY_JSON)
    if content_type is None or at < 0:
        return None
    if at > 0:
        raise DecodeError(
            f"expect MIME type for binary data starts with {SAGEMAKER_BINARY_JSON!r}, got: {content_type:.200}"
        )
    return _parse_length(content_type[len(SAGEMAKER_BINARY_JSON) :], what="json-header-size", size=size)


def triton_header_length(value: str | None, *, size: int) -> int | None:
    """Return the header length in ``Inference-Header-Content-Length``, None where it is missing; raises DecodeError."""
    return None if value is None else _parse_length(value, what=INFERENCE_HEADER_CONTENT_LENGTH, size=size)


def header_length(headers: Mapping[str, str], *, size: int) -> int | None:
    """Return the header length in a response's headers, by either convention; None where all of the body is JSON.

    The names of the headers may be in any case. Raises DecodeError.
    """
    lower = {name.lower(): value for name, value in headers.items()}
    length = triton_header_length(lower.get(INFERENCE_HEADER_CONTENT_LENGTH.lower()), size=size)
    return sagemaker_header_length(lower.get("content-type"), size=size) if length is None else length


def _parse_length(text: str, *, what: str, size: int) -> int:
    number = _NUMBER.match(text)
    if number is None:
        raise DecodeError(f"{what}: expected the size of the JSON header in bytes, found {text!r:.40}")
    length = int(number[1])
    if not 0 <= length <= size:
        raise DecodeError(f"{what}: inference header size should be in range (0, {size}), got: {length}")
    return length


@dataclass(frozen=True, slots=True)
class Payload:
    """The body of a request or response: a JSON header, then the binary tensors.

    ``buffers`` are sent one after another; they are views of the caller's arrays, which must not change before that.
    ``header_length`` is the size of the JSON header in bytes, 0 for a raw body.
    """

    buffers: tuple[Buffer, ...]
    header_length: int

    @property
    def size(self) -> int:
        """The size of the whole body in bytes."""
        return sum(map(len, self.buffers))

    @property
    def is_json(self) -> bool:
        """Whether all of the body is JSON: nothing follows the header."""
        return self.header_length > 0 and self.header_length == self.size

    @property
    def body(self) -> bytes:
        """The whole body in one piece; each call joins the buffers, which copies them once."""
        return b"".join(self.buffers)


def choose_binary(names: Collection[str], binary: bool | Collection[str]) -> frozenset[str]:
    """Return the names of the tensors in binary form: ``binary`` is True or False for all, or their names."""
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
    """Return the JSON entry of one tensor; in binary form its data are appended to ``buffers``.

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


def build_payload(document: Mapping[str, Any], buffers: Sequence[Buffer], *, header_size: int | None) -> Payload:
    """Return the payload of a JSON document and its tensors; spaces pad the header to ``header_size`` bytes."""
    header = dump(document)
    if header_size is not None:
        if len(header) > header_size:
            raise EncodeError(f"the JSON header has {len(header)} bytes; it does not fit in header_size={header_size}")
        header = header.ljust(header_size)
    return Payload((header, *buffers), len(header))


def split_body(body: Buffer, header_length: int | None, *, what: str) -> tuple[memoryview | bytes, int]:
    """Return the JSON text at the start of the body, and where the binary tensors start; None means that all is JSON.

    Range and sentence: http_server.cc and sagemaker_server.cc, ``GetInferenceHeaderLength``.
    """
    if header_length is None or header_length == len(body):
        return body, len(body)
    if not 0 <= header_length <= len(body):
        raise DecodeError(f"{what}: the header size should be in range (0, {len(body)}), got: {header_length}")
    return memoryview(body)[:header_length], header_length


def read_tensors(
    body: Buffer, start: int, entries: list[object], *, role: str
) -> tuple[dict[str, Array], dict[str, dict[str, Parameter]]]:
    """Return the arrays of all entries, and the parameters of those that have some, by name.

    ``body[start:]`` holds the binary tensors back to back in the order of the entries; ``role`` is "input" or "output".
    Raises DecodeError.
    """
    arrays: dict[str, Array] = {}
    all_parameters: dict[str, dict[str, Parameter]] = {}
    at = start
    for index, value in enumerate(entries):
        where = f"{role}s[{index}]"
        entry = read_object(value, where=where)
        name = read_string(entry, "name", where=where)
        where = f"{role} {name!r}" if name else where
        if name in arrays:
            raise DecodeError(f"{where}: duplicate {role} name")
        datatype = read_datatype(read_string(entry, "datatype", where=where), where=where)
        shape = read_shape(entry, where=where)
        parameters = read_parameters(entry, where=where)
        if "shared_memory_region" in parameters:
            raise DecodeError(f"{where}: its data are in shared memory, not in the body")
        size = read_unsigned(parameters, "binary_data_size", where=where)
        if size is None:
            arrays[name] = from_json(read_list(entry, "data", where=where), datatype, shape, where=where)
        elif "data" in entry:
            raise DecodeError(f"{where}: expected 'data' or 'binary_data_size', found both")
        else:
            del parameters["binary_data_size"]
            if size > len(body) - at:
                raise DecodeError(
                    f"{where}: 'binary_data_size' is {size}, but {len(body) - at} bytes are left of the body"
                )
            arrays[name] = from_binary(body, at, at + size, datatype, shape, where=where)
            at += size
        if parameters:
            all_parameters[name] = parameters
    if at != len(body):
        raise DecodeError(f"expected the body to end with the last {role}, found {len(body) - at} bytes after it")
    return arrays, all_parameters


_BLANKS: Final = b" \t\r\n"
_OBJECT: Final = re.compile(rb"[ \t\r\n]*\{")


def find_header_length(body: bytes) -> int:
    r"""Return the length of the JSON header of a request or response, from the body itself; blanks after it count.

    The JSON object ends with the brace that closes it, and has the sizes of the tensors behind it. JSON's own reader
    finds that brace, so that a hostile body costs no more than reading its JSON. Raises DecodeError, and nothing else,
    for any bytes.

    >>> find_header_length(b'{"outputs":[{"parameters":{"binary_data_size":2}}]}\x00\x01')
    51
    """
    if not _OBJECT.match(body):
        raise DecodeError(f"the body is not a JSON object: it begins with {body[:16]!r}")
    document, end = load_first(body, what="the body")
    tensors = sum(_read_binary_size(entry) for key in ("inputs", "outputs") for entry in _read_entries(document, key))
    length = len(body) - tensors
    if length < end or body[end:length].strip(_BLANKS):
        raise DecodeError(
            f"the body has {len(body)} bytes; its JSON ends after {end} and states {tensors} bytes of tensors"
        )
    return length


def _read_entries(document: dict[str, Any], key: str) -> list[Any]:
    entries = document.get(key)
    return entries if isinstance(entries, list) else []


def _read_binary_size(entry: object) -> int:
    parameters = entry.get("parameters") if isinstance(entry, dict) else None
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    return size if type(size) is int and size > 0 else 0
