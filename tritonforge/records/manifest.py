"""Classic manifests: lists of objects in one JSON array, read as its text arrives. No I/O.

``[{"prefix": "s3://bucket/folder/"}, "key", ...]``. Source: API_S3DataSource and API_TransformS3DataSource, `S3Uri`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from tritonforge.errors import ManifestError
from tritonforge.records.stream import Buffer

__all__ = ["ManifestElement", "describe_value", "read_manifest_elements", "read_manifest_uris"]

_BLANKS: Final = " \t\r\n"

#: Characters of the longest element: a key has 1024 bytes, and JSON may write each as six characters.
_LONGEST: Final = 16 * 1024


class ManifestElement(NamedTuple):
    """One element of the array, and the line where it begins, counted from 1."""

    line: int
    value: object


def read_manifest_uris(chunks: Iterable[Buffer]) -> Iterator[tuple[str, str]]:
    """Yield the address and the prefix of each object of a manifest of any length, as its text arrives.

    A further prefix applies to the keys after it. Raises ManifestError, after all objects before the damage.
    """
    prefix: str | None = None
    for line, element in read_manifest_elements(chunks):
        if isinstance(element, dict) and set(element) == {"prefix"} and isinstance(element["prefix"], str):
            prefix = element["prefix"]
        elif isinstance(element, str) and element and prefix is not None:
            yield f"{prefix}{element}", prefix
        elif isinstance(element, str) and prefix is None:
            raise ManifestError('the manifest must begin with {"prefix": "s3://bucket/folder/"}', line=line)
        else:
            raise ManifestError(
                f'the manifest holds {describe_value(element)}; expected a key, or {{"prefix": "..."}}', line=line
            )
    if prefix is None:
        raise ManifestError("the manifest is empty")


def read_manifest_elements(chunks: Iterable[Buffer]) -> Iterator[ManifestElement]:
    """Yield the elements of one JSON array, whatever they are. Raises ManifestError for invalid JSON."""
    decoder = json.JSONDecoder()
    text = _TextReader(chunks)
    if text.next() != "[":
        raise ManifestError("the manifest must be a JSON array", line=text.line())
    text.at += 1
    separator = ""
    while (character := text.next()) != "]":
        if separator and character != separator:
            raise text.error(f"the manifest is not JSON: expected , or ] at character {text.position}")
        if separator:
            text.at += 1
            text.next()
        while True:
            try:
                element, end = decoder.raw_decode(text.text, text.at)
            except (ValueError, RecursionError) as error:
                if len(text.text) - text.at < _LONGEST and text.more():
                    continue  # the element may continue in the next chunk
                raise text.error(f"the manifest is not JSON at character {text.position}") from error
            break
        line = text.line()
        text.at = end
        yield ManifestElement(line, element)
        separator = ","
    text.at += 1
    if text.next():
        raise text.error(f"the manifest continues after its end, at character {text.position}")


def describe_value(value: object) -> str:
    """Return at most 60 characters of a JSON value, for a message."""
    try:
        return f"{json.dumps(value, ensure_ascii=False):.60}"
    except RecursionError:
        return "something nested too deep"


class _TextReader:
    """The characters of a stream; ``at`` is the current position in ``text``, the part in memory."""

    def __init__(self, chunks: Iterable[Buffer]) -> None:
        self._chunks = iter(chunks)
        self._cut = b""  # the start of a character that ends in the next chunk
        self._passed = 0  # characters before `text`
        self._lines, self._counted = 1, 0  # the line number at the position `_counted`
        self.text = ""
        self.at = 0

    @property
    def position(self) -> int:
        return self._passed + self.at

    def line(self) -> int:
        """Return the line of the current position, counted from 1."""
        self._lines += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._lines

    def error(self, message: str) -> ManifestError:
        return ManifestError(message, line=self.line())

    def more(self) -> bool:
        """Take the next chunk; return False at the end."""
        chunk = next(self._chunks, None)
        if chunk is None:
            if self._cut:
                raise self.error(f"the manifest is not UTF-8 at character {self.position}")
            return False
        data = self._cut + bytes(chunk)
        try:
            added, self._cut = data.decode(), b""
        except UnicodeDecodeError as error:
            if len(data) - error.start > 3:
                raise self.error(f"the manifest is not UTF-8 at byte {error.start} of a piece") from error
            added, self._cut = data[: error.start].decode(), data[error.start :]
        self.line()
        self._passed += self.at
        self.text, self.at, self._counted = self.text[self.at :] + added, 0, 0
        return True

    def next(self) -> str:
        """Move to the next character that is not blank and return it, "" at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in _BLANKS:
                    return self.text[self.at]
                self.at += 1
            if not self.more():
                return ""
