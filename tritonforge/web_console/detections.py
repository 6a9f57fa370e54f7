"""The boxes that a detector's outputs describe, as a page draws them on the image. This module does no I/O.

Outputs have no declared meaning, so they are recognised by names and shapes: ``boxes`` [.., n, 4] with ``scores``
[.., n] of the same request. Names with ``detection_boxes`` are [ymin, xmin, ymax, xmax], as in TensorFlow's Object
Detection API (its documentation, "Exporting a trained model"); all others are taken for [xmin, ymin, xmax, ymax]. The
document states which one it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["find_detections"]

Array = npt.NDArray[Any]

_MOST_BOXES: Final = 40
_MOST_IMAGES: Final = 4
_MOST_CHARACTERS: Final = 80
#: Parts of the image end at 1; some detectors give a little more.
_LARGEST_PART: Final = 2.0


def find_detections(
    outputs: Mapping[str, Array], *, labels: Sequence[str] = (), has_batch: bool
) -> dict[str, Any] | None:
    """Return the boxes of one model's outputs; None if they do not look like detections.

    The document has ``tensor``, the name of the boxes, ``order``, ``is_normalised`` (parts of the image instead of
    pixels) and ``images``: a list of boxes for each image, the one with the highest score first. ``labels`` are the
    names of the classes where no output has them.
    """
    rank = 2 + has_batch
    boxes_name = next(
        (name for name, array in outputs.items() if "box" in name.lower() and array.ndim == rank
         and array.shape[-1] == 4 and array.dtype.kind == "f"), None
    )  # fmt: skip
    if boxes_name is None:
        return None
    boxes = np.asarray(outputs[boxes_name], np.float64)
    scores = _choose(outputs, boxes.shape[:-1], ("score", "confidence"), kinds="f")
    if scores is None or not boxes.size:
        return None
    texts = _choose(outputs, boxes.shape[:-1], ("label", "name"), kinds="O")
    classes = _choose(outputs, boxes.shape[:-1], ("class", "label"), kinds="iuf")
    counts = next(
        (array.reshape(-1) for name, array in outputs.items() if ("count" in name.lower() or "num" in name.lower())
         and array.dtype.kind in "iuf" and array.size == (len(boxes) if has_batch else 1)), None
    )  # fmt: skip
    if not has_batch:
        boxes, scores = boxes[np.newaxis], scores[np.newaxis]
        texts = None if texts is None else texts[np.newaxis]
        classes = None if classes is None else classes[np.newaxis]
    is_rows_first = "detection_boxes" in boxes_name.lower()
    if is_rows_first:
        boxes = boxes[..., [1, 0, 3, 2]]
    images = []
    for number in range(min(len(boxes), _MOST_IMAGES)):
        count = min(int(counts[number]), boxes.shape[1]) if counts is not None else boxes.shape[1]
        order = np.argsort(-np.nan_to_num(scores[number][:count]), kind="stable")[:_MOST_BOXES]
        images.append(
            [
                {
                    "corners": [round(float(value), 6) for value in boxes[number][place]],
                    "score": round(float(scores[number][place]), 6),
                    "label": _name_class(number, int(place), texts, classes, labels),
                }
                for place in order
                if np.isfinite(boxes[number][place]).all() and np.isfinite(scores[number][place])
            ]
        )
    finite = boxes[np.isfinite(boxes)]
    return {
        "tensor": boxes_name,
        "order": "[ymin, xmin, ymax, xmax]" if is_rows_first else "[xmin, ymin, xmax, ymax]",
        "is_normalised": bool(finite.size == 0 or float(finite.max()) <= _LARGEST_PART),
        "images": images,
    }


def _choose(outputs: Mapping[str, Array], shape: tuple[int, ...], words: Sequence[str], *, kinds: str) -> Array | None:
    for word in words:
        for name, array in outputs.items():
            if word in name.lower() and array.shape == shape and array.dtype.kind in kinds:
                return array
    return None


def _name_class(image: int, place: int, texts: Array | None, classes: Array | None, labels: Sequence[str]) -> str:
    if texts is not None:
        element = texts[image][place]
        text = element.decode("utf-8", "backslashreplace") if isinstance(element, bytes) else str(element)
        return text[:_MOST_CHARACTERS]
    if classes is None or not np.isfinite(float(classes[image][place])):
        return ""
    index = int(classes[image][place])
    return labels[index][:_MOST_CHARACTERS] if 0 <= index < len(labels) else f"class {index}"
