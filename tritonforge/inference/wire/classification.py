"""A class of a classification answer: Triton writes the k best classes as strings. This module does no I/O.

Format: ``<score>:<index>`` and, where the model's output has a label file, ``:<label>`` (extension_classification.md);
a label may hold colons itself. The answer has datatype BYTES and shape [batch, k], or [k] without a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from tritonforge.errors import DecodeError

__all__ = ["Class", "decode_class", "decode_classes"]


@dataclass(frozen=True, slots=True)
class Class:
    """One class: its ``score``, its ``index`` in the output, and its ``label``, empty where the model has none."""

    score: float
    index: int
    label: str = ""


def decode_class(text: bytes, *, where: str = "classification") -> Class:
    """The class in ``<score>:<index>[:<label>]``; raises DecodeError.

    >>> decode_class(b"0.900000:1:dog")
    Class(score=0.9, index=1, label='dog')
    """
    score, _, rest = text.partition(b":")
    index, _, label = rest.partition(b":")
    try:
        if not index.isdigit():
            raise ValueError("the index is no number")
        return Class(float(score), int(index), label.decode("utf-8", "replace"))
    except ValueError as error:
        raise DecodeError(f"{where}: expected '<score>:<index>[:<label>]', found {text!r:.60}") from error


def decode_classes(array: npt.NDArray[Any], *, where: str = "classification") -> tuple[tuple[Class, ...], ...]:
    """The classes of each batch entry, best first; ``array`` holds ``bytes``, shape [batch, k] or [k]."""
    if array.dtype != object or array.ndim == 0:
        raise DecodeError(
            f"{where}: expected BYTES of shape [batch, k], found {array.dtype} of shape {list(array.shape)}"
        )
    rows = array.reshape(-1, array.shape[-1]) if array.size else array.reshape(0, 0)
    return tuple(tuple(decode_class(each, where=where) for each in row) for row in rows.tolist())
