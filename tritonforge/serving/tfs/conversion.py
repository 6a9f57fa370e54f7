"""The conversion of JSON, JSON lines and CSV to TensorFlow Serving's request, where a package has no code. No I/O here.

These are heuristics of the container, kept as they are: what is a request already is told by its keys' names, JSON
lines by a bracket after a bracket. Source: aws/deep-learning-containers
scripts/docker/tensorflow/inference/sagemaker/tensorflowServing.js (images of TensorFlow Serving 2.20).
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["convert", "flattened", "media_type"]

_JSON_TYPES: Final = ("application/json", "application/jsonlines", "application/jsons")
_REQUEST: Final = re.compile(r'"(instances|inputs|examples)"\s*:')
_LINES: Final = re.compile(r"[}\]]\s*[\[{]")
_NESTED: Final = re.compile(r"\s*\[\s*\[")
_LINE_BREAK: Final = re.compile(r"\r?\n")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def convert(body: bytes, content_type: str | None) -> bytes | None:
    r"""The body to post to TensorFlow Serving; None for a content type that the container answers with 415.

    >>> convert(b"1,2\n3,x", "text/csv")
    b'{"instances":[[1,2],[3,"x"]]}'
    """
    kind = media_type(content_type)
    text = body.decode("utf-8", "replace")
    if kind in _JSON_TYPES:
        return _json(text).encode()
    return _csv(text).encode() if kind == "text/csv" else None


def media_type(content_type: str | None) -> str:
    """A content type without its parameters, in lower case; "" where there is none."""
    return (content_type or "").partition(";")[0].strip().lower()


def flattened(body: bytes, accept: str | None) -> bytes:
    """TensorFlow Serving's answer, on one line where the Accept header lists JSON or JSON lines."""
    accepted = [each.strip() for each in (accept or "").split(",")]
    wanted = "application/json" in accepted or "application/jsonlines" in accepted
    return body.replace(b"\n", b"") if wanted else body


def _json(text: str) -> str:
    if _REQUEST.search(text):
        return text
    if _LINES.search(text):
        return _json_lines(text)
    return f'{{"instances":{text if _NESTED.match(text) else f"[{text}]"}}}'


def _json_lines(text: str) -> str:
    lines = [line.strip() for line in _LINE_BREAK.split(text.strip())]
    joined = lines[0] + "".join(f",{line}" for line in lines[1:] if line)
    return f'{{"instances":{joined}}}' if len(lines) == 1 else f'{{"instances":[{joined}]}}'


def _csv(text: str) -> str:
    lines = [line.strip() for line in _LINE_BREAK.split(text.strip())]
    rows = []
    for line in filter(None, lines):
        fields = _fields(line)
        values = ",".join(map(_value, fields))
        rows.append(values if len(fields) == 1 else f"[{values}]")
    return f'{{"instances":[{",".join(rows)}]}}'


def _fields(line: str) -> list[str]:
    """The fields of a line of CSV; a quotation mark is doubled inside of quotes."""
    if '"' not in line:
        return line.split(",")
    fields, current, quoted, index = [], "", False, 0
    while index < len(line):
        character = line[index]
        if character == '"' and quoted and line[index + 1 : index + 2] == '"':
            current += '"'
            index += 1
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            fields.append(current)
            current = ""
        else:
            current += character
        index += 1
    return [*fields, current]


def _value(field: str) -> str:
    """A field as JSON: a number where it reads as one, else a string."""
    number = field.strip()
    if _NUMBER.fullmatch(number):
        return number
    return '"' + field.replace("\\", "\\\\").replace('"', '\\"') + '"'
