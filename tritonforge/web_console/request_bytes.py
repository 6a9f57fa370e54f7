"""The bytes of an inference request with the meaning of every part: JSON header, then binary tensors. No I/O.

Sources: KServe v2 "Inference Request JSON Object", Triton's extension_binary_data.md, and `payloads` for how a front
end learns where the header ends.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

from tritonforge.datatypes import BY_WIRE
from tritonforge.inference.wire import Payload, sagemaker_headers, triton_headers
from tritonforge.inference.wire.payloads import SAGEMAKER_BINARY_JSON
from tritonforge.web_console.tensor_view import find_media_type

__all__ = ["Segment", "explain_request"]

_DECODER: Final = json.JSONDecoder()
#: Bytes of a tensor, and characters of the header, that a segment shows; the most segments of the header.
_SHOWN_BYTES: Final = 32
_SHOWN_CHARACTERS: Final = 160
_MOST_SEGMENTS: Final = 500

_MEANINGS: Final = {
    "name": "its name, as in the model's config.pbtxt",
    "shape": "its shape; where the model batches, the first number counts the entries of the batch",
    "datatype": "its element type: TYPE_{wire} in config.pbtxt",
    "parameters": "what the protocol's extensions state about it",
    "data": "its values as JSON",
    "classification": "request this number of best classes instead of the tensor",
    "binary_data": "return this output as binary",
}


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of the body: where it is, what it is, and how it reads.

    ``part`` is "header" or the name of a tensor, ``depth`` the nesting in the JSON. ``text`` is the text of the header;
    ``hexadecimal`` has the bytes, of a tensor the first ones; ``is_cut`` states that there are more.
    """

    offset: int
    length: int
    part: str
    meaning: str
    depth: int = 0
    text: str = ""
    hexadecimal: str = ""
    is_cut: bool = False


def explain_request(payload: Payload) -> dict[str, Any]:
    """Return the parts of a request's body in order, and the headers for both of Triton's HTTP front ends."""
    body = b"".join(payload.buffers)
    header = body[: payload.header_length].decode("ascii")
    document = json.loads(header)
    segments = [*_Header(header, document).list_segments(), *_list_tensors(document, body, payload.header_length)]
    content_type = sagemaker_headers(payload)["Content-Type"]
    return {
        "size": len(body),
        "header_length": payload.header_length,
        "segments": [asdict(segment) for segment in segments],
        "triton_headers": triton_headers(payload),
        "sagemaker_content_type": content_type,
        "sagemaker_parts": list(_explain_content_type(content_type)),
    }


class _Header:
    """Splits the JSON header into segments: a member with its key, and the brackets around members."""

    def __init__(self, text: str, document: dict[str, Any]) -> None:
        self._text = text
        self._document = document
        self._segments: list[Segment] = []

    def list_segments(self) -> list[Segment]:
        end = self._read(0, 0, ())
        if end < len(self._text):
            self._add(end, len(self._text), (), "blanks that pad the header to a fixed size")
        return self._segments

    def _read(self, start: int, at: int, path: tuple[str | int, ...]) -> int:
        """Add the segments of the value at a place, whose text begins at ``start`` with its key; return its end."""
        text = self._text
        opening = text[at]
        if opening not in "{[" or (opening == "[" and text[at + 1] != "{"):
            end = _DECODER.raw_decode(text, at)[1]
            end += text[end : end + 1] == ","
            self._add(start, end, path, self._describe(path))
            return end
        self._add(start, at + 1, path, self._describe(path))
        at += 1
        count = 0
        while text[at] not in "}]":
            if opening == "{":
                key, end = _DECODER.raw_decode(text, at)
                at = self._read(at, end + 1, (*path, key))
            else:
                at = self._read(at, at, (*path, count))
                count += 1
        end = at + 1
        end += text[end : end + 1] == ","
        self._add(at, end, path, f"end of {_name_part(path)}")
        return end

    def _add(self, start: int, end: int, path: tuple[str | int, ...], meaning: str) -> None:
        if len(self._segments) >= _MOST_SEGMENTS:
            return
        text = self._text[start:end]
        is_cut = len(text) > _SHOWN_CHARACTERS
        shown = text[:_SHOWN_CHARACTERS]
        self._segments.append(
            Segment(start, end - start, "header", meaning, len(path), shown, shown.encode().hex(" "), is_cut)
        )

    def _describe(self, path: tuple[str | int, ...]) -> str:
        if path in ((), ("inputs",), ("outputs",)) or (len(path) == 2 and isinstance(path[1], int)):
            return {
                (): "the JSON header begins",
                ("inputs",): "the input tensors, in the order of their bytes after the header",
                ("outputs",): "the outputs that are requested",
            }.get(path[:1] if len(path) < 2 else ("",), f"{_name_part(path)} begins")
        key = path[-1]
        if key == "binary_data_size":
            return "its size: this number of bytes follows after the header"
        if key == "binary_data_output":
            return "return all outputs as binary tensors too"
        if key == "id" and len(path) == 1:
            return "the name of this request, which the response repeats"
        if path == ("parameters",):
            return "parameters of the whole request"
        meaning = _MEANINGS.get(str(key), "a parameter")
        return meaning.format(wire=_read_datatype(self._document, path)) if key == "datatype" else meaning


def _read_datatype(document: dict[str, Any], path: tuple[str | int, ...]) -> str:
    value: Any = document
    for key in path:
        value = value[key]
    return {"BYTES": "STRING"}.get(str(value), str(value))


def _name_part(path: tuple[str | int, ...]) -> str:
    if not path:
        return "the JSON header"
    if len(path) == 1:
        return {"inputs": "the list of inputs", "outputs": "the list of outputs"}.get(str(path[0]), f"{path[0]}")
    if len(path) == 2:
        return f"{str(path[0]).removesuffix('s')} {path[1]}"
    return f"the {path[-1]} of {_name_part(path[:2])}"


def _list_tensors(document: dict[str, Any], body: bytes, at: int) -> Iterator[Segment]:
    for entry in document["inputs"]:
        size = entry.get("parameters", {}).get("binary_data_size")
        if size is None:
            continue
        content = body[at : at + size]
        name, datatype = entry["name"], entry["datatype"]
        if datatype == "BYTES":
            yield from _list_elements(name, content, at)
        else:
            yield _show(
                at, content, name, f"{name}: {datatype} {entry['shape']}, {_describe_content(content, datatype)}"
            )
        at += size


def _list_elements(name: str, content: bytes, at: int) -> Iterator[Segment]:
    """Yield the first elements of BYTES: each one is its length, 4 bytes little-endian, and then its content."""
    done = 0
    for number in range(3):
        if done >= len(content):
            return
        (length,) = struct.unpack_from("<I", content, done)
        meaning = f"{name}: the length of element {number}, {length} in 4 bytes, the lowest first"
        yield _show(at + done, content[done : done + 4], name, meaning)
        element = content[done + 4 : done + 4 + length]
        yield _show(at + done + 4, element, name, f"{name}: element {number}, {_describe_content(element, 'BYTES')}")
        done += 4 + length
    if done < len(content):
        yield _show(at + done, content[done:], name, f"{name}: further elements in the same form")


def _show(offset: int, content: bytes, part: str, meaning: str) -> Segment:
    shown = content[:_SHOWN_BYTES]
    text = re.sub(r"[^ -~]", "·", shown.decode("latin-1"))
    return Segment(offset, len(content), part, meaning, 0, text, shown.hex(" "), len(content) > len(shown))


def _describe_content(content: bytes, datatype: str) -> str:
    if media_type := find_media_type(content):
        first = content[:3].hex(" ") if media_type == "image/jpeg" else content[:4].hex(" ")
        return f"an encoded image: {first} is the start of {media_type.removeprefix('image/').upper()}"
    if datatype == "BYTES":
        return "text" if content.isascii() else "bytes"
    row = BY_WIRE[datatype]
    size = row.size or 1
    if size == 1:
        return "one byte for each element, row by row"
    return f"{size} bytes for each element, the lowest first, row by row"


def _explain_content_type(content_type: str) -> Iterator[dict[str, str]]:
    if not content_type.startswith(SAGEMAKER_BINARY_JSON):
        yield {"text": content_type, "meaning": "all of the body is JSON"}
        return
    media_type, _, name = SAGEMAKER_BINARY_JSON.partition(";")
    yield {"text": media_type, "meaning": "SageMaker's front end of Triton: a JSON header, then binary tensors"}
    yield {"text": f";{name}", "meaning": "without a blank and in this spelling, or the body is taken for JSON"}
    size = content_type.removeprefix(SAGEMAKER_BINARY_JSON)
    yield {"text": size, "meaning": f"the header is bytes 0 to {int(size) - 1}; tensors begin at byte {size}"}
