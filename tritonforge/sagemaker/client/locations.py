"""Locations: ``s3://bucket/key`` as a value. This module does no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from tritonforge.errors import EncodeError

__all__ = ["Location"]

_URI: Final = re.compile(r"s3://([a-z0-9][a-z0-9.\-]{1,61}[a-z0-9])(?:/(.*))?", re.DOTALL)
#: Bytes of UTF-8 in a key (S3 user guide, "Naming Amazon S3 objects").
_KEY_LIMIT: Final = 1024


@dataclass(frozen=True, slots=True)
class Location:
    """A place in S3: the bucket, and the key, empty for the whole bucket, ``/`` at its end for a folder.

    >>> str(Location.parse("s3://models/digits/") / "1/model.onnx")
    's3://models/digits/1/model.onnx'
    """

    bucket: str
    key: str = ""

    @classmethod
    def parse(cls, uri: str) -> Location:
        """The location that an address names; raises EncodeError."""
        found = _URI.fullmatch(uri)
        if found is None:
            raise EncodeError(f"{uri!r} is no place in S3; write s3://bucket/key, the bucket's name in small letters")
        key = found[2] or ""
        if len(key.encode("utf-8", "surrogatepass")) > _KEY_LIMIT:
            raise EncodeError(f"the key of {uri!r:.80} has more than {_KEY_LIMIT} bytes, which S3 does not take")
        return cls(found[1], key)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __truediv__(self, below: str) -> Location:
        """A location below this one."""
        return Location.parse(f"{self.folder}{below}")

    @property
    def folder(self) -> Location:
        """This location with ``/`` at its end, so that it holds what lies below and nothing beside it."""
        return self if not self.key or self.key.endswith("/") else Location(self.bucket, f"{self.key}/")

    def relative(self, key: str) -> str:
        """What a key below this folder is called in it."""
        return key.removeprefix(self.folder.key)
