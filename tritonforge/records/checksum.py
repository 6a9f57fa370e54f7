"""CRC-32C (Castagnoli) and its masked form in TFRecords, by google-crc32c. This module does no I/O."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from tritonforge.errors import MissingExtraError
from tritonforge.records.record import Buffer

__all__ = ["crc32c", "masked"]

#: google-crc32c reads ``bytes`` only. A view is copied in pieces of this size, which stay in the processor's cache.
_PIECE: Final = 256 * 1024

#: Source: TensorFlow, lib/hash/crc32c.h, `kMaskDelta` and `Mask`.
_MASK_DELTA: Final = 0xA282EAD8


@lru_cache(maxsize=1)
def _extend() -> Callable[[int, bytes], int]:
    try:
        from google_crc32c import extend
    except ImportError as error:
        raise MissingExtraError("google-crc32c", extra="transform") from error
    function: Callable[[int, bytes], int] = extend
    return function


def crc32c(data: Buffer) -> int:
    """The CRC-32C of the data. Raises MissingExtraError where google-crc32c is not installed."""
    extend = _extend()
    if len(data) <= _PIECE:
        return extend(0, bytes(data))
    crc = 0
    for start in range(0, len(data), _PIECE):
        crc = extend(crc, bytes(data[start : start + _PIECE]))
    return crc


def masked(crc: int) -> int:
    """The checksum as a TFRecord stores it: rotated right by 15 bits, plus a constant."""
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF
