"""The record of a tensor: the whole of a small one, statistics and digests of a large one. This module does no I/O.

A large tensor (more than 256 elements) is not stored. Its record has the SHA-256 of its bytes, that of its elements
rounded to a quantum (2**-16 of the largest magnitude for FP32), its smallest, largest and mean value and standard
deviation, 64 elements at fixed places, and the mean and the mean magnitude of 64 parts of equal length. If every
element of a tensor is within a tolerance of the recorded one, so are these numbers: `comparison` never refuses such a
tensor. Tensors that look like images have a thumbnail, for people only.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge.datatypes import from_numpy

__all__ = ["WHOLE_ELEMENTS", "Summary", "TensorRecord", "draw_thumbnail", "hash_tensor", "list_best", "list_numbers",
           "record_tensor", "split_parts"]  # fmt: skip

Array = npt.NDArray[Any]

#: A tensor of up to this number of elements, and BYTES of up to this number of bytes, are stored whole.
WHOLE_ELEMENTS: Final = 256
_WHOLE_BYTES: Final = 4096

#: Elements of a large tensor that are stored, and its parts.
_SAMPLES: Final = 64
_PARTS: Final = 64

#: The quantum as a fraction of the largest magnitude: about the noise of sums in another order.
_QUANTUM: Final[Mapping[str, float]] = {"FP16": 2.0**-9, "BF16": 2.0**-6}
_DEFAULT_QUANTUM: Final = 2.0**-16

#: Best classes that are recorded, and the pixels of a thumbnail's side.
_BEST: Final = 10
_THUMBNAIL: Final = 32
_SMALLEST_IMAGE: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Summary:
    """What is stored of a large tensor of numbers.

    Attributes:
        quantum: what elements are rounded to, 0 if all are 0 or not finite.
        rounded_digest: SHA-256 of the rounded elements.
        minimum, maximum, mean, deviation: of the finite elements.
        special: the counts of NaN, infinity and negative infinity.
        samples: FP64 [64], elements at the places that `list_sample_places` gives.
        part_means: FP64 [64], means of the finite elements of 64 parts of equal length.
        part_magnitudes: FP64 [64], means of their magnitudes.
    """

    quantum: float
    rounded_digest: str
    minimum: float
    maximum: float
    mean: float
    deviation: float
    special: tuple[int, int, int]
    samples: Array
    part_means: Array
    part_magnitudes: Array


@dataclass(frozen=True, slots=True, eq=False)
class TensorRecord:
    """A recorded tensor.

    Attributes:
        datatype: its KServe datatype.
        shape: its shape, with the batch dimension.
        digest: ``sha256:`` and the digest of its bytes (`hash_tensor`).
        values: the whole tensor if it is small.
        summary: of a large tensor of numbers.
        best: the indexes of the best 10 classes of each row of a large tensor of scores.
        labels: the labels of the best classes by index, if the model has labels.
        thumbnail: UINT8 [height, width, channels], the first image of a large tensor that looks like images.
    """

    datatype: str
    shape: tuple[int, ...]
    digest: str
    values: Array | None = None
    summary: Summary | None = None
    best: tuple[tuple[int, ...], ...] = ()
    labels: Mapping[int, str] = field(default_factory=dict)
    thumbnail: Array | None = None


def record_tensor(array: Array, *, labels: Mapping[int, str] | None = None) -> TensorRecord:
    """Return the record of a tensor as a response has it: BYTES are object arrays of ``bytes``."""
    row = from_numpy(array.dtype)
    datatype = row.wire if row is not None else str(array.dtype)
    digest = hash_tensor(array)
    if is_whole(array):
        return TensorRecord(datatype, array.shape, digest, values=array, labels=labels or {})
    if array.dtype == object:
        return TensorRecord(datatype, array.shape, digest)
    return TensorRecord(
        datatype,
        array.shape,
        digest,
        summary=summarize(array, datatype),
        best=list_best(array),
        labels=labels or {},
        thumbnail=draw_thumbnail(array),
    )


def is_whole(array: Array) -> bool:
    """Return True if a tensor is stored whole."""
    if array.dtype == object:
        return array.size <= WHOLE_ELEMENTS and sum(map(len, array.reshape(-1).tolist())) <= _WHOLE_BYTES
    return array.size <= WHOLE_ELEMENTS


def hash_tensor(array: Array) -> str:
    """Return ``sha256:`` and the digest of a tensor's datatype, shape and little-endian elements."""
    row = from_numpy(array.dtype)
    digest = hashlib.sha256(f"{row.wire if row else array.dtype} {list(array.shape)}\n".encode())
    if array.dtype == object:
        for element in array.reshape(-1).tolist():
            digest.update(len(element).to_bytes(8, "little") + element)
    else:
        target = row.dtype if row is not None else array.dtype
        digest.update(np.ascontiguousarray(array.astype(target, copy=False)).view(np.uint8).data)
    return f"sha256:{digest.hexdigest()}"


def summarize(array: Array, datatype: str, *, quantum: float | None = None) -> Summary:
    """Return the summary of a tensor of numbers; ``quantum`` is that of the recorded tensor it is compared with."""
    numbers = list_numbers(array)
    finite = np.isfinite(numbers)
    kept = np.where(finite, numbers, 0.0)
    magnitudes = np.abs(kept)
    chosen = choose_quantum(float(magnitudes.max(initial=0.0)), datatype) if quantum is None else quantum
    selected = numbers[finite]
    means, mean_magnitudes = (
        np.array([part.mean() if part.size else 0.0 for part in split_parts(values)]) for values in (kept, magnitudes)
    )
    return Summary(
        quantum=chosen,
        rounded_digest=_hash_rounded(numbers, kept, finite, chosen),
        minimum=float(selected.min()) if selected.size else 0.0,
        maximum=float(selected.max()) if selected.size else 0.0,
        mean=float(selected.mean()) if selected.size else 0.0,
        deviation=float(selected.std()) if selected.size else 0.0,
        special=(int(np.isnan(numbers).sum()), int((numbers == math.inf).sum()), int((numbers == -math.inf).sum())),
        samples=numbers[list_sample_places(numbers.size)],
        part_means=means,
        part_magnitudes=mean_magnitudes,
    )


def choose_quantum(largest: float, datatype: str) -> float:
    """Return a power of two, at most the fraction of the datatype of the largest magnitude; 0 for 0."""
    if not largest or not math.isfinite(largest):
        return 0.0
    return 2.0 ** max(math.floor(math.log2(largest * _QUANTUM.get(datatype, _DEFAULT_QUANTUM))), -1000)


def list_sample_places(size: int) -> Array:
    """Return the places of the stored elements in the flat tensor, spread without a period; INT64, sorted."""
    places = (np.arange(_SAMPLES, dtype=np.uint64) * np.uint64(2654435761) + np.uint64(12345)) % np.uint64(max(size, 1))
    chosen: Array = np.unique(places).astype(np.int64)
    return chosen


def split_parts(values: Array) -> list[Array]:
    """Return the 64 parts of a flat tensor, of lengths that differ by at most one."""
    return np.array_split(values, _PARTS)


def list_numbers(array: Array) -> Array:
    """Return the elements of a tensor of numbers, flat, as FP64."""
    return array.reshape(-1).astype(np.float64)


def list_best(array: Array, count: int = _BEST) -> tuple[tuple[int, ...], ...]:
    """Return the indexes of the best classes of each row; empty if the tensor does not look like scores.

    Equal scores are in the order of their indexes.
    """
    row = from_numpy(array.dtype)
    if row is None or row.kind != "float" or array.ndim not in (1, 2) or array.shape[-1] < 2:
        return ()
    rows = array.reshape(-1, array.shape[-1]).astype(np.float64)
    order = np.argsort(-np.nan_to_num(rows, nan=-math.inf), axis=1, kind="stable")[:, :count]
    return tuple(tuple(map(int, entries)) for entries in order)


def draw_thumbnail(array: Array, *, limits: tuple[float, float] | None = None) -> Array | None:
    """Return the first image of a tensor, at most 32 x 32, as UINT8 [height, width, channels]; None for other tensors.

    Args:
        array: [..., height, width, channels] or [..., channels, height, width] with 1, 3 or 4 channels.
        limits: the values that become 0 and 255; by default the smallest and the largest one of the image.
    """
    if array.ndim not in (3, 4) or array.dtype == object or not array.size:
        return None
    image = array if array.ndim == 3 else array[0]
    if image.shape[2] not in (1, 3, 4):
        image = np.moveaxis(image, 0, 2)
    if image.shape[2] not in (1, 3, 4) or min(image.shape[:2]) < _SMALLEST_IMAGE:
        return None
    reduced = np.nan_to_num(image.astype(np.float64), posinf=0.0, neginf=0.0)
    for axis in (0, 1):
        length = reduced.shape[axis]
        starts = np.unique(np.arange(min(length, _THUMBNAIL)) * length // min(length, _THUMBNAIL))
        counts = np.diff(np.append(starts, length))
        reduced = np.add.reduceat(reduced, starts, axis=axis) / np.expand_dims(counts, tuple({0, 1, 2} - {axis}))
    low, high = limits if limits is not None else (float(reduced.min()), float(reduced.max()))
    scaled = (reduced - low) * (255.0 / (high - low) if high > low else 0.0)
    pixels: Array = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return pixels


def _hash_rounded(numbers: Array, kept: Array, finite: Array, quantum: float) -> str:
    rounded = np.rint(kept / quantum) if quantum else np.zeros_like(kept)
    special = np.select([np.isnan(numbers), numbers > 0], [2.0, 1.0], -1.0) * 2.0**40
    marked = np.where(finite, np.clip(rounded, -(2.0**39), 2.0**39), special)
    return f"sha256:{hashlib.sha256(marked.astype('<i8').tobytes()).hexdigest()}"


def encode_base64(array: Array) -> str:
    """Return the bytes of a UINT8 array in base64."""
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
