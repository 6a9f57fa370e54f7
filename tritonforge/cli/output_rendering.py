"""The outputs of `tritonforge infer`: as text for people, as JSON for machines, and as numpy's files."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import numpy.typing as npt

from tritonforge.datatypes import from_numpy
from tritonforge.errors import TritonForgeError
from tritonforge.escaping import escape_line, escape_text
from tritonforge.files import describe_error, replace_file
from tritonforge.inference.wire import Class, Response

__all__ = ["check_destination", "format_response", "outputs_to_json", "write_arrays"]

Array = npt.NDArray[Any]

#: The elements of a tensor and the characters of a text that are printed.
_SHOWN_ELEMENTS: Final = 8
_SHOWN_CHARACTERS: Final = 2000


def outputs_to_json(response: Response, row: int | None = None, *, rows: int = 1) -> dict[str, Any]:
    """Return the outputs as plain JSON, in full.

    Classes are a list of ``{"score", "index", "label"}``. A tensor has ``datatype`` and ``shape`` as in KServe v2 and
    ``data``, flat and row-major. JSON has no NaN and no infinity: they are the strings ``"NaN"``, ``"Infinity"`` and
    ``"-Infinity"``. Elements of BYTES are strings; if one is not UTF-8 all of them are base64, and ``encoding`` is
    ``"base64"``. ``row`` selects one row of a batch of ``rows``.
    """
    document: dict[str, Any] = {}
    for name, array in response.outputs.items():
        if name not in response.classified:
            document[name] = _tensor_to_json(_select_row(array, row, rows))
            continue
        classes = [[_class_to_json(entry) for entry in row_classes] for row_classes in response.classes(name)]
        document[name] = classes[row or 0] if len(classes) == (1 if row is None else rows) else classes
    return document


def format_response(response: Response, row: int | None = None, *, rows: int = 1, has_names: bool) -> Iterator[str]:
    """Yield lines of text with the outputs: classes, text, and numbers, abbreviated.

    ``row`` as in `outputs_to_json`; ``has_names`` prints the name of a single output too.
    """
    for name, array in response.outputs.items():
        shown = escape_line(name)
        if name in response.classified:
            classes = response.classes(name)
            if has_names or len(response.outputs) > 1:
                yield f"  {shown}"
            for entries in classes[row : row + 1] if row is not None and len(classes) == rows else classes:
                for entry in entries:
                    yield f"  {entry.score:10.6f}  {entry.index:5d}  {escape_line(entry.label)}".rstrip()
            continue
        part = _select_row(array, row, rows)
        datatype = from_numpy(part.dtype)
        head = f"{datatype.wire if datatype else part.dtype} {list(part.shape)}"
        line = f"  {shown}  {head}" if has_names or len(response.outputs) > 1 else f"  {head}"
        if part.dtype != object:
            yield f"{line}  {_format_numbers(part)}"
            continue
        yield line
        elements = part.reshape(-1).tolist()
        for element in elements[:_SHOWN_ELEMENTS]:
            yield from (f"    {line}" for line in _format_text(element))
        if len(elements) > _SHOWN_ELEMENTS:
            yield f"    ... ({len(elements) - _SHOWN_ELEMENTS} more)"


def check_destination(path: Path | None) -> None:
    """Refuse a file name with an unknown suffix before any request is sent. Raises click.UsageError."""
    if path is not None and path.suffix.lower() not in (".npz", ".npy"):
        raise click.UsageError(f"{path}: expected a file name that ends in .npz, or in .npy for a single output")


def write_arrays(path: Path, responses: Sequence[Mapping[str, Array]], *, batched: bool) -> None:
    """Write the outputs of all responses as numpy's ``.npz``, or ``.npy`` if there is one output.

    ``batched`` responses are rows of one batch and are joined. The outputs of several others are named ``0/NAME``,
    ``1/NAME``, and so on. BYTES become numpy's byte strings. Raises click.UsageError and TritonForgeError.
    """
    rows = _join_rows(responses) if batched else None
    several = len(responses) > 1
    arrays = rows or {
        f"{index}/{name}" if several else name: array
        for index, response in enumerate(responses)
        for name, array in response.items()
    }
    stored = {name: _to_storable(name, array) for name, array in arrays.items()}
    if path.suffix.lower() == ".npy" and len(stored) != 1:
        raise click.UsageError(f"{path}: a .npy file holds one output, got {', '.join(stored) or 'none'}; write .npz")
    try:
        with replace_file(path) as file:
            if path.suffix.lower() == ".npy":
                np.save(file, next(iter(stored.values())), allow_pickle=False)
            else:
                np.savez(file, **stored)
    except OSError as error:
        raise TritonForgeError(f"{path}: cannot write: {describe_error(error)}") from error


def _join_rows(responses: Sequence[Mapping[str, Array]]) -> dict[str, Array] | None:
    """Return the rows of all responses by output; None if their shapes differ."""
    try:
        return {name: np.concatenate([response[name] for response in responses]) for name in responses[0]}
    except (ValueError, KeyError):
        return None


def _select_row(array: Array, row: int | None, rows: int) -> Array:
    """Return one row of a batch; the whole array if it does not have a row for each image."""
    return array if row is None or not array.ndim or array.shape[0] != rows else array[row]


def _class_to_json(entry: Class) -> dict[str, Any]:
    return {
        "score": _number_to_json(entry.score),
        "index": entry.index,
        **({"label": entry.label} if entry.label else {}),
    }


def _tensor_to_json(array: Array) -> dict[str, Any]:
    datatype = from_numpy(array.dtype)
    document: dict[str, Any] = {"datatype": datatype.wire if datatype else str(array.dtype), "shape": list(array.shape)}
    flat = array.reshape(-1)
    if array.dtype == object:
        try:
            return {**document, "data": [element.decode() for element in flat.tolist()]}
        except UnicodeDecodeError:
            data = [base64.b64encode(element).decode() for element in flat.tolist()]
            return {**document, "encoding": "base64", "data": data}
    if array.dtype.kind in "biu":
        return {**document, "data": flat.tolist()}
    return {**document, "data": [_number_to_json(element) for element in flat.astype(np.float64).tolist()]}


def _number_to_json(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _format_numbers(array: Array) -> str:
    flat = array.reshape(-1)
    elements = flat[:_SHOWN_ELEMENTS]
    kept = elements.tolist() if array.dtype.kind in "biu" else elements.astype(np.float64).tolist()
    shown = ", ".join(f"{value:.6g}" if isinstance(value, float) else str(value).lower() for value in kept)
    return f"{shown} ..." if flat.size > _SHOWN_ELEMENTS else shown


def _format_text(element: bytes) -> list[str]:
    """Return the lines of one element of BYTES; of bytes that are not text their start and their number."""
    try:
        text = element.decode()
    except UnicodeDecodeError:
        return [f"{element[:24]!r}{'...' if len(element) > 24 else ''} ({len(element)} bytes)"]
    more = f" ... ({len(text)} characters)" if len(text) > _SHOWN_CHARACTERS else ""
    return (escape_text(text[:_SHOWN_CHARACTERS]) + more).split("\n")


def _to_storable(name: str, array: Array) -> Array:
    """Return the array as numpy stores it without pickle. Raises click.UsageError for bytes that it would truncate."""
    if array.dtype.name == "bfloat16":
        return array.view(np.dtype("V2"))
    if array.dtype != object:
        return array
    if any(element.endswith(b"\0") for element in array.reshape(-1).tolist()):
        raise click.UsageError(
            f"output {name!r}: numpy's files remove zero bytes at the end of byte strings; use --format json"
        )
    return np.array(array.tolist(), dtype=np.bytes_).reshape(array.shape)
