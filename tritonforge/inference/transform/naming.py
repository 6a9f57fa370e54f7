"""Naming: which objects a job has, and what the output of each is called. This module does no I/O."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Final, Literal, TypeAlias

from tritonforge.errors import DecodeError
from tritonforge.records import Buffer

__all__ = ["Naming", "manifest_uris", "output_uri", "relative_key"]

#: "relative": the key below the prefix, as the listings of jobs show it. "whole": with the last part of the prefix, as
#: the one example in API_TransformOutput has it.
Naming: TypeAlias = Literal["relative", "whole"]

_BLANKS: Final = " \t\r\n"

#: Characters of the longest element of a manifest: a key has 1024 bytes, and JSON may write each as six characters.
_LONGEST: Final = 16 * 1024


def relative_key(uri: str, prefix: str, naming: Naming = "relative") -> str:
    """What an object's output is called after: its key below the prefix.

    A prefix is a folder, an object, or the beginning of names: then what follows its last slash is part of them.

    >>> relative_key("s3://b/in/a/1.jpg", "s3://b/in/"), relative_key("s3://b/in/a/1.jpg", "s3://b/in")
    ('a/1.jpg', 'a/1.jpg')
    >>> relative_key("s3://b/in/1.jpg", "s3://b/in/1.jpg"), relative_key("s3://b/in/part-1", "s3://b/in/part-")
    ('1.jpg', 'part-1')
    >>> relative_key("s3://b/in/a/1.jpg", "s3://b/in/", "whole")
    'in/a/1.jpg'
    """
    rest = uri[len(prefix) :]
    if prefix.endswith("/"):
        folder, key = prefix[:-1], rest
    elif rest.startswith("/"):
        folder, key = prefix, rest[1:]
    else:
        folder, slash, _ = prefix.rpartition("/")
        key = uri[len(folder) + len(slash) :]
    if naming == "relative":
        return key
    below = folder.partition("://")[2].partition("/")[2] if "://" in folder else folder  # without the bucket
    last = below.rpartition("/")[2]
    return f"{last}/{key}" if last else key


def output_uri(key: str, folder: str, suffix: str = ".out") -> str:
    """Where the output of a key goes.

    >>> output_uri("a/1.jpg", "s3://b/out")
    's3://b/out/a/1.jpg.out'
    """
    return f"{folder.rstrip('/')}/{key}{suffix}"


def manifest_uris(chunks: Iterable[Buffer]) -> Iterator[tuple[str, str]]:
    """The objects of a manifest, each with its prefix, as its text arrives; a manifest of any length.

    ``[{"prefix": "s3://bucket/folder/"}, "key", ...]``; an object with another prefix holds from there on. Raises
    DecodeError, after everything before the damage was given out. Source: API_TransformS3DataSource, `S3Uri`.
    """
    prefix: str | None = None
    for element in _elements(chunks):
        if isinstance(element, dict) and set(element) == {"prefix"} and isinstance(element["prefix"], str):
            prefix = element["prefix"]
        elif isinstance(element, str) and element and prefix is not None:
            yield f"{prefix}{element}", prefix
        elif isinstance(element, str) and prefix is None:
            raise DecodeError('the manifest must begin with {"prefix": "s3://bucket/folder/"}')
        else:
            raise DecodeError(f'the manifest holds {json.dumps(element):.60}; expected a key, or {{"prefix": "..."}}')
    if prefix is None:
        raise DecodeError("the manifest is empty")


def _elements(chunks: Iterable[Buffer]) -> Iterator[object]:
    """The elements of one JSON array, read piece by piece."""
    decoder = json.JSONDecoder()
    text = _Text(chunks)
    if text.next() != "[":
        raise DecodeError("the manifest must be a JSON array")
    text.at += 1
    separator = ""
    while (character := text.next()) != "]":
        if separator and character != separator:
            raise DecodeError(f"the manifest is no JSON: expected , or ] at character {text.position}")
        if separator:
            text.at += 1
            text.next()
        while True:
            try:
                element, end = decoder.raw_decode(text.text, text.at)
            except (ValueError, RecursionError) as error:
                if len(text.text) - text.at < _LONGEST and text.more():
                    continue  # it may be cut by the end of the chunk
                raise DecodeError(f"the manifest is no JSON at character {text.position}") from error
            break
        text.at = end
        yield element
        separator = ","
    text.at += 1
    if text.next():
        raise DecodeError(f"the manifest goes on after its end, at character {text.position}")


class _Text:
    """The characters of a stream from a place on; ``at`` is that place in what is held."""

    def __init__(self, chunks: Iterable[Buffer]) -> None:
        self._chunks = iter(chunks)
        self._cut = b""  # of a character that ends in the next chunk
        self._passed = 0
        self.text = ""
        self.at = 0

    @property
    def position(self) -> int:
        return self._passed + self.at

    def more(self) -> bool:
        """Take the next chunk; False at the end."""
        chunk = next(self._chunks, None)
        if chunk is None:
            if self._cut:
                raise DecodeError(f"the manifest is not UTF-8 at character {self.position}")
            return False
        data = self._cut + bytes(chunk)
        try:
            added, self._cut = data.decode(), b""
        except UnicodeDecodeError as error:
            if len(data) - error.start > 3:
                raise DecodeError(f"the manifest is not UTF-8 at byte {error.start} of a piece") from error
            added, self._cut = data[: error.start].decode(), data[error.start :]
        self._passed += self.at
        self.text, self.at = self.text[self.at :] + added, 0
        return True

    def next(self) -> str:
        """The next character that is no blank, "" at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in _BLANKS:
                    return self.text[self.at]
                self.at += 1
            if not self.more():
                return ""
