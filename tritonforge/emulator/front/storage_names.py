"""The names of buckets and keys in requests to S3, held against S3's own rules. This module does no I/O.

Sources: Amazon S3 user guide, "General purpose bucket naming rules", "Naming Amazon S3 objects" (keys of at most 1,024
bytes of UTF-8; a key's ``..`` must not lead out of its bucket); "Error Responses" (codes and sentences).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from tritonforge.triton.service_limits import S3_KEY

__all__ = ["Problem", "bucket_of_host", "problem", "readable"]

_BUCKET: Final = re.compile(r"(?!.*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS: Final = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}")

#: What XML 1.0 cannot carry, or turns into something else; S3 writes a character reference.
_UNREADABLE: Final = re.compile(rb"[\x00-\x08\x0b-\x1f]")


class Problem(NamedTuple):
    """Why S3 refuses a request: its code and its sentence; the status is 400."""

    code: str
    message: str


def bucket_of_host(host: str, allowed_hosts: Collection[str]) -> str:
    """The bucket that a header Host has in front of a name of this machine; "" where it has none.

    >>> bucket_of_host("models.localhost:4566", ())
    'models'
    """
    name = re.sub(r":\d+$", "", host).lower().rstrip(".")
    for known in ("localhost", *(re.sub(r":\d+$", "", each).lower() for each in allowed_hosts)):
        if name.endswith(f".{known}"):
            return name.removesuffix(f".{known}")
    return ""


def problem(path: str) -> Problem | None:
    """What is wrong with the bucket or the key of a request in path style; ``path`` is as sent.

    >>> problem("/../x")
    Problem(code='InvalidBucketName', message='The specified bucket is not valid.')
    """
    try:
        bucket, _, key = unquote_to_bytes(path).decode("utf-8").removeprefix("/").partition("/")
    except UnicodeDecodeError:
        return Problem("InvalidURI", "Couldn't parse the specified URI.")
    if not bucket and not key:
        return None
    if not _BUCKET.fullmatch(bucket) or _ADDRESS.fullmatch(bucket):
        return Problem("InvalidBucketName", "The specified bucket is not valid.")
    if len(key.encode()) > S3_KEY.value:
        return Problem("KeyTooLongError", "Your key is too long")
    depth = 0
    for part in key.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return Problem("InvalidURI", "Couldn't parse the specified URI.")
    return None


def readable(document: bytes) -> bytes:
    r"""An XML document of moto's with character references in place of control characters, but for line feeds.

    >>> readable(b"<Key>\x01</Key>")
    b'<Key>&#x1;</Key>'
    """
    return _UNREADABLE.sub(lambda found: b"&#x%X;" % found[0][0], document)
