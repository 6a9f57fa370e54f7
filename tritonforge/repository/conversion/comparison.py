"""How far the answers of two models lie apart. This module does no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tritonforge.repository.conversion.facts import TOLERANCES

__all__ = ["Difference", "difference", "problem"]

#: Below this magnitude an output is taken for nothing but rounding, and differences are not divided by it.
_SMALLEST: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Difference:
    """One output in one batch: ``absolute`` and ``relative`` (of the original's largest magnitude) largest difference.

    ``classes`` counts the rows of scores that have one largest value, ``moved`` those where it lies elsewhere in the
    converted model's answer. ``problem`` is set where the answers cannot be compared as numbers, or are not equal.
    """

    absolute: float = 0.0
    relative: float = 0.0
    classes: int = 0
    moved: int = 0
    problem: str = ""


def difference(original: np.ndarray[Any, Any], converted: np.ndarray[Any, Any], data_type: str) -> Difference:
    """The difference of one output; whole numbers, truth values and texts must be equal."""
    if original.shape != converted.shape:
        return Difference(problem=f"has shape {list(converted.shape)} where TensorFlow's has {list(original.shape)}")
    if data_type not in TOLERANCES:
        unequal = sum(_text(a) != _text(b) for a, b in zip(original.ravel(), converted.ravel(), strict=True))
        return Difference(problem=f"differs in {unequal} of {original.size} values" if unequal else "")
    ours, theirs = original.astype(np.float64), converted.astype(np.float64)
    finite = np.isfinite(ours)
    if not np.array_equal(ours[~finite], theirs[~finite], equal_nan=True) or not np.isfinite(theirs[finite]).all():
        return Difference(problem="is no number where TensorFlow's is one, or the other way round")
    if not finite.any():
        return Difference()
    absolute = float(np.abs(ours[finite] - theirs[finite]).max())
    relative = absolute / max(float(np.abs(ours[finite]).max()), _SMALLEST)
    classes, moved = _classes(ours, theirs)
    return Difference(absolute, relative, classes, moved)


def problem(apart: Difference, data_type: str) -> str:
    """What is wrong with a difference, as the rest of a sentence about the output; "" when it is within its tolerance.

    Classes must agree whatever the tolerance: they are what a classifier is asked for.
    """
    if apart.problem:
        return apart.problem
    allowed = TOLERANCES.get(data_type, 0.0)
    if apart.relative > allowed:
        return (
            f"differs from TensorFlow's by {apart.absolute:.2g}, {apart.relative:.2g} of its largest value, where "
            f"{allowed:g} is allowed"
        )
    return f"has another largest class in {apart.moved} of {apart.classes} rows" if apart.moved else ""


def _classes(ours: np.ndarray[Any, Any], theirs: np.ndarray[Any, Any]) -> tuple[int, int]:
    """Rows of scores with one largest value, and those where the other model's lies elsewhere."""
    if ours.ndim != 2 or ours.shape[1] < 2 or not np.isfinite(ours).all():
        return 0, 0
    best = ours.max(axis=1, keepdims=True)
    single = (ours == best).sum(axis=1) == 1
    moved = single & (ours.argmax(axis=1) != theirs.argmax(axis=1))
    return int(single.sum()), int(moved.sum())


def _text(value: Any) -> Any:
    """TensorFlow's texts are bytes, ONNX Runtime's are str."""
    return value.encode() if isinstance(value, str) else value
