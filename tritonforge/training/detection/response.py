"""How a detector answers over HTTP: what it takes, which forms of the answer a client may ask for, and these. No I/O.

The contract of SageMaker's built-in "Object Detection - TensorFlow" algorithm. Source: SageMaker developer guide,
"Object Detection - TensorFlow", input and output interface, and AWS's example notebook. The guide shows the boxes as
``[xmin1, xmax1, ymin1, ymax1]``; the notebook unpacks and draws them as ``[xmin, ymin, xmax, ymax]``, and so they are.
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

#: One encoded image a request. Source: as above.
CONTENT_TYPE: Final = "application/x-image"
JSON: Final = "application/json"

_UNSUPPORTED: Final = 415
_NOT_ACCEPTABLE: Final = 406

#: Media ranges that JSON satisfies. Source: RFC 9110, section 12.5.1.
_RANGES: Final = (JSON, "application/*", "*/*")

_FORMS: Final = f"{JSON}, {JSON};verbose, and either with ;n_predictions=K"

#: Digits of a number in an answer: a millionth of the image, and of certainty.
_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class AnswerFormat:
    """The form of an answer: ``verbose`` has labels and the model's own output, ``predictions`` limits the boxes."""

    verbose: bool = False
    predictions: int | None = None


def check_content_type(content_type: str) -> None:
    """Let `application/x-image` in; its parameters are passed over.

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
    """The form that an Accept header asks for; without one it is plain `application/json`.

    Of several media ranges, the first one with the largest ``q`` that can be answered is taken. Its parameters come in
    any order.

    Raises:
        RefusalError: 406, where none can be answered.
    """
    if not accept.strip():
        return AnswerFormat()
    chosen: tuple[float, AnswerFormat] | None = None
    problem = ""
    for each in accept.split(","):
        try:
            weight, form = _form(each)
        except ValueError as error:
            problem = problem or str(error)
            continue
        if weight > 0 and (chosen is None or weight > chosen[0]):
            chosen = weight, form
    if chosen is None:
        raise RefusalError(
            f"the answer cannot be given as {accept[:80]!r}{problem}; accept {_FORMS}", status=_NOT_ACCEPTABLE
        )
    return chosen[1]


def build_answer(
    boxes: Any, classes: Any, scores: Any, *, labels: Sequence[str], form: AnswerFormat = AnswerFormat()
) -> bytes:
    """The JSON document for one image.

    ``boxes`` are [k, 4], normalised corners, ``classes`` [k] places in ``labels``, ``scores`` [k]; the likeliest first.
    ``normalized_boxes``, ``classes`` and ``scores`` have ``form.predictions`` entries at most. Verbose answers add
    ``labels`` (the name of class i is ``labels[int(i)]``) and ``tensorflow_model_output``: everything that was found,
    in the form of TensorFlow's Object Detection API, a batch of one with boxes [ymin, xmin, ymax, xmax].
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    classes, scores = np.asarray(classes).reshape(-1), np.asarray(scores, np.float64).reshape(-1)
    count = len(boxes) if form.predictions is None else form.predictions
    document: dict[str, Any] = {
        "normalized_boxes": _numbers(boxes[:count]),
        "classes": [int(each) for each in classes[:count]],
        "scores": _numbers(scores[:count]),
    }
    if form.verbose:
        document["labels"] = list(labels)
        document["tensorflow_model_output"] = {
            "detection_boxes": [_numbers(to_rows_first(boxes))],
            "detection_classes": [[float(each) for each in classes]],
            "detection_scores": [_numbers(scores)],
            "num_detections": [float(len(boxes))],
        }
    return json.dumps(document).encode()


def _form(media_range: str) -> tuple[float, AnswerFormat]:
    """The weight of a media range and the form that it asks for; raises ValueError with the reason, "" for its type."""
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
            raise ValueError(", since n_predictions is a whole number of at least 1")
        elif key != "charset" or value.strip('"').lower() != "utf-8":
            raise ValueError(f", since its parameter {parameter[:40]!r} is unknown")
    return weight, AnswerFormat(verbose, predictions)


def _numbers(values: Any) -> Any:
    return np.round(values, _DIGITS).tolist()
