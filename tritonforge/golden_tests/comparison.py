"""Whether a tensor is the recorded one within a tolerance, and by how much it differs. This module does no I/O.

Numbers are equal if ``|now - before| <= absolute + relative * |before|``; NaN equals NaN. The default for floats is an
absolute tolerance of one quantum (2**-16 of the recorded tensor's largest magnitude for FP32 and FP64, 2**-9 for FP16,
2**-6 for BF16) and a relative one of 0.001 (0.01, 0.05). Integers, booleans and BYTES must be equal unless a tolerance
is given. Of a large tensor only what follows from a difference of its elements is compared: an equal digest, or an
equal rounded digest with the default tolerance, is equal; else every stored number must be within the tolerance.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge.datatypes import BY_WIRE, from_numpy
from tritonforge.golden_tests.cases import Tolerance
from tritonforge.golden_tests.tensor_record import (
    Summary,
    TensorRecord,
    choose_quantum,
    hash_tensor,
    list_best,
    list_numbers,
    summarize,
)

__all__ = ["compare_labels", "compare_tensor", "compare_top", "format_number"]

Array = npt.NDArray[Any]

_RELATIVE: Final[Mapping[str, float]] = {"FP16": 0.01, "BF16": 0.05}
_DEFAULT_RELATIVE: Final = 0.001

#: Beyond what is computed with FP64 itself: 64 parts of up to 2**31 elements.
_ROUNDING: Final = 2.0**-40

#: Elements of BYTES and labels that a sentence quotes, and their characters.
_QUOTED: Final = 40


@dataclass(frozen=True, slots=True)
class _Limits:
    """The tolerance in numbers; ``is_default`` if the case gives none; ``word`` is what the reference is called."""

    absolute: float
    relative: float
    is_default: bool
    word: str

    def bound(self, before: Array) -> Array:
        """Return the largest difference that is allowed for each element."""
        bound: Array = self.absolute + self.relative * np.abs(before)
        return bound

    def __str__(self) -> str:
        if not self.absolute and not self.relative:
            return "tolerance 0"
        return f"tolerance {format_number(self.absolute)} + {format_number(self.relative)} * |{self.word}|"


def compare_tensor(record: TensorRecord, array: Array, tolerance: Tolerance, *, word: str = "before") -> str:
    """Return how a tensor differs from its record, as one sentence; "" if it is equal within the tolerance.

    ``word`` is what the sentence calls the record: "before" or "expected".
    """
    now = record_head(array)
    if now != (record.datatype, record.shape):
        return f"{record.datatype} {list(record.shape)} {word}, {now[0]} {list(now[1])} now"
    digest = hash_tensor(array)
    if digest == record.digest:
        return ""
    if array.dtype == object:
        if record.values is None:
            return "its bytes are not the recorded ones"
        return _compare_texts(record.values, array, word)
    if record.values is not None:
        return _compare_numbers(
            list_numbers(record.values), list_numbers(array), _set_limits(record, tolerance, word), shape=record.shape
        )
    if record.summary is None:
        return "its bytes are not the recorded ones"
    return _compare_summaries(record, record.summary, array, _set_limits(record, tolerance, word))


def compare_top(record: TensorRecord, array: Array, count: int) -> str:
    """Return how the best classes of the rows differ from the recorded ones; "" if they are the same, in order."""
    before = record.best or (list_best(record.values) if record.values is not None else ())
    now = list_best(array)
    if not before or not now:
        return "top compares the classes of an output of scores (floats, a row for each entry of the batch)"
    if len(before) != len(now):
        return f"it has {len(now)} rows, before it had {len(before)}"
    for row, (old, new) in enumerate(zip(before, now, strict=True)):
        if old[:count] != new[:count]:
            return f"row {row}: the best classes are {list(new[:count])}, before they were {list(old[:count])}"
    return ""


def compare_labels(before: Mapping[int, str], now: Mapping[int, str]) -> str:
    """Return the first class whose label is not the recorded one; "" if none of the classes in both differs."""
    for index in sorted(before.keys() & now.keys()):
        if before[index] != now[index]:
            return f"class {index} is labelled {_quote(now[index])}, before it was {_quote(before[index])}"
    return ""


def record_head(array: Array) -> tuple[str, tuple[int, ...]]:
    """Return the datatype and shape of a tensor."""
    row = from_numpy(array.dtype)
    return (row.wire if row is not None else str(array.dtype)), array.shape


def format_number(value: float) -> str:
    """Return a number with at most six digits."""
    return f"{value:.6g}"


def _set_limits(record: TensorRecord, tolerance: Tolerance, word: str) -> _Limits:
    if tolerance.absolute is not None or tolerance.relative is not None:
        return _Limits(tolerance.absolute or 0.0, tolerance.relative or 0.0, is_default=False, word=word)
    if BY_WIRE[record.datatype].kind != "float":
        return _Limits(0.0, 0.0, is_default=True, word=word)
    quantum = record.summary.quantum if record.summary is not None else 0.0
    if record.values is not None:
        finite = np.abs(list_numbers(record.values))
        quantum = choose_quantum(float(finite[np.isfinite(finite)].max(initial=0.0)), record.datatype)
    return _Limits(quantum, _RELATIVE.get(record.datatype, _DEFAULT_RELATIVE), is_default=True, word=word)


def _compare_numbers(
    before: Array, now: Array, limits: _Limits, *, what: str = "elements", shape: tuple[int, ...] = ()
) -> str:
    """Return how numbers differ: how many, and the largest difference; with its place in a tensor of ``shape``."""
    finite = np.isfinite(before) & np.isfinite(now)
    same = (before == now) | (np.isnan(before) & np.isnan(now))
    with np.errstate(invalid="ignore"):
        distance = np.where(finite, np.abs(now - before), np.where(same, 0.0, math.inf))
    differing = ~same & (distance > limits.bound(np.where(finite, before, 0.0)))
    if not differing.any():
        return ""
    place = int(np.argmax(np.where(differing, distance, -1.0)))
    where = f" at {[int(index) for index in np.unravel_index(place, shape)]}" if shape else ""
    return (
        f"{int(differing.sum())} of {before.size} {what} differ, "
        f"by up to {format_number(float(distance[place]))}{where}: "
        f"{format_number(float(before[place]))} {limits.word}, {format_number(float(now[place]))} now ({limits})"
    )


def _compare_summaries(record: TensorRecord, before: Summary, array: Array, limits: _Limits) -> str:
    now = summarize(array, record.datatype, quantum=before.quantum)
    if limits.is_default and limits.relative and now.rounded_digest == before.rounded_digest:
        return ""
    if not limits.absolute and not limits.relative:
        return f"its bytes are not the recorded ones ({limits}); {_describe_change(before, now)}"
    return next(filter(None, _list_differences(before, now, limits)), "")


def _list_differences(before: Summary, now: Summary, limits: _Limits) -> Iterator[str]:
    """Yield what cannot be if every element is within the tolerance."""
    change = _describe_change(before, now)
    if now.special != before.special:
        yield f"it has {_describe_special(now.special)}, before {_describe_special(before.special)}"
    if sentence := _compare_numbers(before.samples, now.samples, limits, what="stored elements"):
        yield f"{sentence}; {change}"
    # The mean of n differences is at most the mean of their bounds.
    bound = limits.absolute + limits.relative * before.part_magnitudes
    distance = np.abs(now.part_means - before.part_means)
    slack = _ROUNDING * (np.abs(before.part_means) + before.part_magnitudes)
    if (wrong := distance > bound + slack).any():
        place = int(np.argmax(np.where(wrong, distance, -1.0)))
        yield (
            f"the means of {int(wrong.sum())} of {wrong.size} parts differ, by up to "
            f"{format_number(float(distance[place]))}: {format_number(float(before.part_means[place]))} before, "
            f"{format_number(float(now.part_means[place]))} now ({limits}); {change}"
        )
    for name in ("minimum", "maximum"):
        old, new = getattr(before, name), getattr(now, name)
        # The extremes of two tensors differ by no more than the bound of the element that has one of them.
        if abs(new - old) > limits.absolute + limits.relative * max(abs(old), abs(new)):
            yield f"its {name} is {format_number(new)}, before it was {format_number(old)} ({limits})"


def _describe_change(before: Summary, now: Summary) -> str:
    return ", ".join(
        f"{name} {format_number(getattr(before, key))} before, {format_number(getattr(now, key))} now"
        for name, key in (("mean", "mean"), ("standard deviation", "deviation"))
    )


def _describe_special(counts: tuple[int, int, int]) -> str:
    return ", ".join(f"{count} {name}" for count, name in zip(counts, ("NaN", "infinity", "-infinity"), strict=True))


def _compare_texts(before: Array, now: Array, word: str) -> str:
    pairs = list(zip(before.reshape(-1).tolist(), now.reshape(-1).tolist(), strict=True))
    differing = [(old, new) for old, new in pairs if old != new]
    old, new = differing[0]
    return f"{len(differing)} of {len(pairs)} elements differ: {_quote(old)} {word}, {_quote(new)} now"


def _quote(value: bytes | str) -> str:
    text = value if isinstance(value, str) else value.decode(errors="backslashreplace")
    return repr(text if len(text) <= _QUOTED else f"{text[:_QUOTED]}...")
