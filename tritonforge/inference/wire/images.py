"""Encoded images (JPEG, PNG, ...) as one batch tensor. This module does no I/O.

Encoded images differ in size, a tensor's rows do not. A model that takes the files' bytes as TYPE_UINT8 gets them
padded with zeros at the end: decoders stop at the image's own end mark (JPEG's EOI marker: ITU-T T.81, B.2.1; PNG's
IEND chunk: ISO/IEC 15948, 11.2.5) and never look at what follows, so the decoding step of the model takes the padding
off. A model that takes TYPE_STRING gets each file as one element, without padding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tritonforge.errors import EncodeError

__all__ = ["byte_batch", "pad_batch"]


def pad_batch(images: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    """The images as one UINT8 array of shape [N, longest], each row padded with zeros at its end.

    >>> pad_batch([b"ab", b"c"]).tolist()
    [[97, 98], [99, 0]]
    """
    _check(images)
    batch = np.zeros((len(images), max(map(len, images))), dtype=np.uint8)
    for row, image in zip(batch, images, strict=True):
        row[: len(image)] = np.frombuffer(image, dtype=np.uint8)
    return batch


def byte_batch(images: Sequence[bytes], *, column: bool = True) -> npt.NDArray[Any]:
    """The images as one object array for BYTES: shape [N, 1] (a batch of ``dims: [1]``), or [N] without ``column``."""
    _check(images)
    batch = np.empty(len(images), dtype=object)
    batch[:] = [bytes(image) for image in images]
    return batch.reshape(-1, 1) if column else batch


def _check(images: Sequence[bytes]) -> None:
    if isinstance(images, (bytes, bytearray, memoryview, str)) or not len(images):
        raise EncodeError("expected a list of at least one encoded image, each as bytes")
    for index, image in enumerate(images):
        if not isinstance(image, (bytes, bytearray, memoryview)):
            raise EncodeError(f"image {index}: expected the bytes of an encoded image, found {type(image).__name__}")
        if not len(image):
            raise EncodeError(f"image {index}: it has no bytes")
