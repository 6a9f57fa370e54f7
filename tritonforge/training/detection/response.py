"""The HTTP interface of a detector: content types, formats of the response, and the response itself. No I/O.

The contract is that of SageMaker's built-in "Object Detection - TensorFlow" algorithm. Source: SageMaker developer
guide, "Object Detection - TensorFlow", input and output interface, and AWS's example notebook. The guide shows
boxes as ``[xmin1, xmax1, ymin1, ymax1]``; the notebook unpacks and draws them as ``[xmin, ymin, xmax, ymax]``, as here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tritonforge.errors import RefusalError
from tritonforge.training.detection.boxes import to_rows_first

__all__ = ["CONTENT_TYPE", "JSON", "AnswerFormat", "build_answer", "check_content_type", "parse_accept"]

#: A request has one encoded image. Source: as above.
CONTENT_TYPE: Final = "application/x-image"
JSON: Final = "application/json"

_UNSUPPORTED: Final = 415
_NOT_ACCEPTABLE: Final = 406

#: Media ranges that JSON satisfies. Source: RFC 9110, section 12.5.1.
_RANGES: Final = (JSON, "application/*", "*/*")

_SUPPORTED: Final = f"{JSON}, {JSON};verbose, and either with ;n_predictions=K"

#: Digits of a number in a response: a millionth of the image, and of the score.
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The format of a response; ``verbose`` adds labels and the model's own output, ``predictions`` limits boxes."""

    verbose: bool = False
    predictions: int | None = None


def check_content_type(content_type: str) -> None:
    """Accept `application/x-image`, with any parameters.

    Raises:
        RefusalError: 415, for every other type and for none.
    """
    if content_type.partition(";")[0].strip().lower() != CONTENT_TYPE:
        found = f"found {content_type[:80]!r}" if content_type else "found none"
        raise RefusalError(
            f"the content type must be {CONTENT_TYPE}, with one JPEG or PNG image as the body; {found}",
            status=_UNSUPPORTED,
        )


def parse_accept(accept: str) -> AnswerFormat:
    """Return the format that an Accept header requests; without one it is plain `application/json`.

    Of several media ranges, the first supported one with the largest ``q`` is taken. Parameters are accepted in any
    order.

    Raises:
        RefusalError: 406, if none is supported.
    """
    if not accept.strip():
        return AnswerFormat()
    chosen: tuple[float, AnswerFormat] | None = None
    problem = ""
    for media_range in accept.split(","):
        try:
            weight, form = _parse_media_range(media_range)
        except ValueError as error:
            problem = problem or str(error)
            continue
        if weight > 0 and (chosen is None or weight > chosen[0]):
            chosen = weight, form
    if chosen is None:
        raise RefusalError(
            f"the answer cannot be given as {accept[:80]!r}{problem}; accept {_SUPPORTED}", status=_NOT_ACCEPTABLE
        )
    return chosen[1]


def build_answer(
    boxes: Any, classes: Any, scores: Any, *, labels: Sequence[str], form: AnswerFormat = AnswerFormat()
) -> bytes:
    """Build the JSON document for one image.

    Args:
        boxes: [k, 4], normalized corners, by descending score.
        classes: [k], indices of ``labels``.
        scores: [k].
        labels: the names of the classes.
        form: what the client requested. ``normalized_boxes``, ``classes`` and ``scores`` have ``form.predictions``
        entries
            at most. Verbose documents add ``labels`` and ``tensorflow_model_output``: all detections, in the format of
            TensorFlow's Object Detection API, a batch of one with boxes [ymin, xmin, ymax, xmax].
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    classes, scores = np.asarray(classes).reshape(-1), np.asarray(scores, np.float64).reshape(-1)
    count = len(boxes) if form.predictions is None else form.predictions
    document: dict[str, Any] = {
        "normalized_boxes": _round_numbers(boxes[:count]),
        "classes": [int(number) for number in classes[:count]],
        "scores": _round_numbers(scores[:count]),
    }
    if form.verbose:
        document["labels"] = list(labels)
        document["tensorflow_model_output"] = {
            "detection_boxes": [_round_numbers(to_rows_first(boxes))],
            "detection_classes": [[float(number) for number in classes]],
            "detection_scores": [_round_numbers(scores)],
            "num_detections": [float(len(boxes))],
        }
    return json.dumps(document).encode()


def _parse_media_range(media_range: str) -> tuple[float, AnswerFormat]:
    """Parse weight and format of a media range; raise ValueError with the reason, "" for an unsupported type."""
    name, *parameters = (part.strip() for part in media_range.split(";"))
    if name.lower() not in _RANGES:
        raise ValueError("")
    weight, verbose, predictions = 1.0, False, None
    for parameter in filter(None, parameters):
        key, equals, value = (part.strip() for part in parameter.partition("="))
        key = key.lower()
        if key == "verbose" and not equals:
            verbose = True
        elif key == "n_predictions" and re.fullmatch("[0-9]{1,9}", value) and int(value) > 0:
            predictions = int(value)
        elif key == "q" and re.fullmatch(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", value):
            weight = float(value)
        elif key == "n_predictions":
            raise ValueError(", since n_predictions must be a whole number of at least 1")
        elif key != "charset" or value.strip('"').lower() != "utf-8":
            raise ValueError(f", since its parameter {parameter[:40]!r} is unknown")
    return weight, AnswerFormat(verbose, predictions)


def _round_numbers(values: Any) -> Any:
    return np.round(values, _DIGITS).tolist()
