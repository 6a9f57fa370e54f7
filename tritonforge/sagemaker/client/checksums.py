"""Checksums: what a file or a row of buffers must be when it has arrived in S3.

S3 keeps a CRC-32 of a whole object however many parts it came in ("FULL_OBJECT"), refuses an upload that ends with
another one, and tells it afterwards: one number from the disk here to the disk there. CRC64NVME and CRC32C would need
the awscrt package; SHA-256 is kept for parts only, so that it depends on how a file was cut.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

__all__ = ["crc32", "pieces", "sha256"]

#: Bytes read at a time.
_PIECE: Final = 4 << 20


def pieces(path: Path) -> Iterator[bytes]:
    """A file's content, a piece at a time."""
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece


def crc32(content: Iterable[bytes | memoryview]) -> str:
    """The CRC-32 as S3 writes it: four bytes, the highest first, in base64.

    >>> crc32([b"12345", b"6789"])
    'y/Q5Jg=='
    """
    value = 0
    for piece in content:
        value = zlib.crc32(piece, value)
    return base64.b64encode(value.to_bytes(4, "big")).decode()


def sha256(path: Path) -> str:
    """The digest of a file's content: ``sha256:`` and 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for piece in pieces(path):
        digest.update(piece)
    return f"sha256:{digest.hexdigest()}"
