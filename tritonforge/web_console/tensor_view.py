"""A tensor as a page shows it: images, pictures, scores with labels, text, or statistics and values. No I/O.

A view is a JSON document. Its size is bounded, whatever the tensor's is. How numbers become pixels is stated in it.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge.datatypes import from_numpy
from tritonforge.web_console.png_image import encode_png

__all__ = ["build_tensor_view", "find_media_type"]

Array = npt.NDArray[Any]
Document = dict[str, Any]

#: Rows of a batch that are shown, bars and texts of a row, values of a tensor, and characters of a text.
_MOST_ROWS: Final = 4
_MOST_BARS: Final = 10
_MOST_TEXTS: Final = 40
_MOST_VALUES: Final = 32
_MOST_CHARACTERS: Final = 400
#: The longest side of a picture in pixels, the smallest one, and the largest ratio of its sides.
_LONGEST_SIDE: Final = 480
_SMALLEST_SIDE: Final = 8
_LARGEST_RATIO: Final = 8
#: Bytes of an encoded image that is shown.
_LARGEST_IMAGE: Final = 12 * 2**20
#: Elements that statistics are computed of; a larger tensor is read at equal distances.
_MOST_ELEMENTS: Final = 4_000_000
_BINS: Final = 24
#: Elements that are shown as numbers: a histogram of so few says less.
_FEW_VALUES: Final = 16

#: The first bytes of image formats that browsers show -> media type.
_MAGIC: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
)


def build_tensor_view(array: Array, *, labels: Sequence[str] = (), has_batch: bool) -> Document:
    """Return the view of a tensor.

    Args:
        array: the tensor; BYTES are objects of ``bytes``.
        labels: the names of classes, by index.
        has_batch: whether the first axis counts the entries of a batch.

    The document has ``datatype``, ``shape``, ``bytes``, ``statistics`` (None for text), ``values`` (the first ones) and
    ``form`` with what belongs to it: "image" and "picture" have ``images``, "scores" has ``rows`` of ``bars``, "text"
    has ``texts``, and "values" has a histogram.
    """
    row = from_numpy(array.dtype)
    view: Document = {
        "datatype": row.wire if row is not None else str(array.dtype),
        "shape": list(array.shape),
        "bytes": sum(map(len, array.reshape(-1).tolist())) if array.dtype == object else int(array.nbytes),
        "form": "values",
        "statistics": None,
        "values": list(_list_values(array)),
    }
    if array.dtype == object:
        return view | _view_objects(array)
    numbers = array.reshape(-1)[:: max(1, array.size // _MOST_ELEMENTS)].astype(np.float64)
    view["statistics"] = _describe_numbers(numbers)
    if (encoded := _view_encoded(array, has_batch=has_batch)) is not None:
        return view | encoded
    if (picture := _view_pictures(array, has_batch=has_batch)) is not None:
        return view | picture
    if (scores := _view_scores(array, labels, has_batch=has_batch)) is not None:
        return view | scores
    is_few = array.size <= _FEW_VALUES or array.dtype == np.bool_
    return view | {"histogram": None if is_few else _count_bins(numbers)}


def find_media_type(content: bytes) -> str:
    """Return the media type of an encoded image from its first bytes; "" for other content.

    >>> find_media_type(b"GIF89a...")
    'image/gif'
    """
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for magic, media_type in _MAGIC if content.startswith(magic)), "")


def _view_objects(array: Array) -> Document:
    elements: list[bytes] = array.reshape(-1).tolist()
    shown = elements[:_MOST_ROWS]
    if shown and all(find_media_type(element) and len(element) <= _LARGEST_IMAGE for element in shown):
        return {"form": "image", "images": [_embed(find_media_type(element), element) for element in shown]}
    return {"form": "text", "texts": [_decode(element) for element in elements[:_MOST_TEXTS]]}


def _view_encoded(array: Array, *, has_batch: bool) -> Document | None:
    if array.dtype != np.uint8 or array.ndim != 1 + has_batch or not array.size:
        return None
    contents = [row.tobytes() for row in array.reshape(-1, array.shape[-1])[:_MOST_ROWS]]
    if not all(find_media_type(content) and len(content) <= _LARGEST_IMAGE for content in contents):
        return None
    # The rows of a batch are padded with zeros; decoders stop at the end mark of the image.
    return {
        "form": "image",
        "images": [_embed(find_media_type(content), content.rstrip(b"\0")) for content in contents],
    }


def _view_pictures(array: Array, *, has_batch: bool) -> Document | None:
    if array.ndim != 3 + has_batch or not array.size:
        return None
    images = array if has_batch else array[np.newaxis]
    if images.shape[3] not in (1, 3, 4):
        images = np.moveaxis(images, 1, 3)
    height, width = images.shape[1:3]
    if images.shape[3] not in (1, 3, 4) or min(height, width) < _SMALLEST_SIDE:
        return None
    if max(height, width) > _LARGEST_RATIO * min(height, width):
        return None
    step = max(1, math.ceil(max(height, width) / _LONGEST_SIDE))
    reduced = images[:_MOST_ROWS, ::step, ::step].astype(np.float64)
    low, high = _choose_scale(array, np.nan_to_num(reduced, posinf=0.0, neginf=0.0))
    scaled = np.nan_to_num((reduced - low) * (255.0 / (high - low) if high > low else 0.0), posinf=255.0, neginf=0.0)
    pixels = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    pictures = [_embed("image/png", encode_png(image)) | {"width": width, "height": height} for image in pixels]
    return {"form": "picture", "images": pictures, "scale": [low, high]}


def _choose_scale(array: Array, shown: Array) -> tuple[float, float]:
    """Return the values that are shown as black and as white: the usual ranges of pixels, else the tensor's own."""
    low, high = float(shown.min()), float(shown.max())
    if array.dtype == np.uint8:
        return 0.0, 255.0
    for first, last in ((0.0, 1.0), (-1.0, 1.0)):
        if first <= low and high <= last:
            return first, last
    return (0.0, 255.0) if low >= 0.0 and high <= 255.0 else (low, high)


def _view_scores(array: Array, labels: Sequence[str], *, has_batch: bool) -> Document | None:
    """Return the best classes of the rows of a vector of floats, or of any vector that has labels."""
    row = from_numpy(array.dtype)
    if array.ndim != 1 + has_batch or array.shape[-1] < 2 or row is None or not array.size:
        return None
    if row.kind != "float" and not labels:
        return None
    rows = []
    vectors = array.reshape(-1, array.shape[-1])[:_MOST_ROWS].astype(np.float64)
    for vector in vectors:
        order = np.argsort(-np.nan_to_num(vector, nan=-math.inf), kind="stable")[:_MOST_BARS]
        rows.append(
            [
                {
                    "index": int(index),
                    "label": _shorten(labels[index]) if index < len(labels) else "",
                    "value": _to_number(float(vector[index])),
                }
                for index in order
            ]
        )
    sums = vectors.sum(axis=1)
    is_share = bool(np.isfinite(sums).all() and vectors.min() >= 0.0 and np.abs(sums - 1.0).max() < 0.01)
    return {"form": "scores", "rows": rows, "classes": int(array.shape[-1]), "is_probability": is_share}


def _describe_numbers(numbers: Array) -> Document:
    finite = numbers[np.isfinite(numbers)]
    not_finite = int(numbers.size - finite.size)
    if not finite.size:
        return {"minimum": None, "maximum": None, "mean": None, "deviation": None, "not_finite": not_finite}
    return {
        "minimum": float(finite.min()),
        "maximum": float(finite.max()),
        "mean": _to_number(float(finite.mean())),
        "deviation": _to_number(float(finite.std())),
        "not_finite": not_finite,
    }


def _count_bins(numbers: Array) -> Document | None:
    finite = numbers[np.isfinite(numbers)]
    if finite.size < 2 or float(finite.min()) == float(finite.max()):
        return None
    with np.errstate(over="ignore"):
        if not math.isfinite(float(finite.max()) - float(finite.min())):
            return None
    counts, edges = np.histogram(finite, bins=_BINS)
    return {"counts": counts.tolist(), "low": float(edges[0]), "high": float(edges[-1])}


def _list_values(array: Array) -> Iterator[str]:
    for element in array.reshape(-1)[:_MOST_VALUES].tolist():
        if isinstance(element, bytes):
            yield _decode(element[: _MOST_CHARACTERS * 4])
        elif isinstance(element, float):
            yield f"{element:.6g}"
        else:
            yield str(element)


def _embed(media_type: str, content: bytes) -> Document:
    return {"media_type": media_type, "data": base64.b64encode(content).decode(), "bytes": len(content)}


def _decode(element: bytes) -> str:
    return _shorten(element.decode("utf-8", "backslashreplace"))


def _shorten(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def _to_number(value: float) -> float | str:
    """Return a number that JSON has, else its name."""
    return value if math.isfinite(value) else str(value)
