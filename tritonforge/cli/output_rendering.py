"""The outputs of `tritonforge infer`: as text for people, as JSON for machines, and as numpy's files."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
import numpy.typing as npt

from tritonforge.cli.writing import written
from tritonforge.datatypes import from_numpy
from tritonforge.escaping import terminal_line, terminal_text
from tritonforge.inference.wire import Class, Response

__all__ = ["checked_destination", "json_outputs", "text_lines", "write_arrays"]

Array = npt.NDArray[Any]

#: What is shown of a tensor: elements, and characters of a text.
_SHOWN_ELEMENTS: Final = 8
_SHOWN_CHARACTERS: Final = 2000


def json_outputs(response: Response, row: int | None = None, *, rows: int = 1) -> dict[str, Any]:
    """The outputs as plain JSON, in full.

    Classes are a list of ``{"score", "index", "label"}``. A tensor has ``datatype`` and ``shape`` as in KServe v2 and
    ``data``, flat and row-major. JSON has no NaN and no infinity: they are the strings ``"NaN"``, ``"Infinity"`` and
    ``"-Infinity"``. Elements of BYTES are strings; where one is not UTF-8 all of them are base64, and ``encoding`` says
    so. ``row`` takes one row of a batch of ``rows`` only.
    """
    told: dict[str, Any] = {}
    for name, array in response.outputs.items():
        if name not in response.classified:
            told[name] = _json_tensor(_row(array, row, rows))
            continue
        classes = [[_json_class(each) for each in found] for found in response.classes(name)]
        told[name] = classes[row or 0] if len(classes) == (1 if row is None else rows) else classes
    return told


def text_lines(response: Response, row: int | None = None, *, rows: int = 1, names: bool) -> Iterator[str]:
    """The outputs for people, by their kinds: classes, text, and numbers, abbreviated.

    ``row`` as in `json_outputs`; ``names`` shows the name of a single output too.
    """
    for name, array in response.outputs.items():
        shown = terminal_line(name)
        if name in response.classified:
            classes = response.classes(name)
            if names or len(response.outputs) > 1:
                yield f"  {shown}"
            for found in classes[row : row + 1] if row is not None and len(classes) == rows else classes:
                for each in found:
                    yield f"  {each.score:10.6f}  {each.index:5d}  {terminal_line(each.label)}".rstrip()
            continue
        part = _row(array, row, rows)
        datatype = from_numpy(part.dtype)
        head = f"{datatype.wire if datatype else part.dtype} {list(part.shape)}"
        line = f"  {shown}  {head}" if names or len(response.outputs) > 1 else f"  {head}"
        if part.dtype != object:
            yield f"{line}  {_numbers(part)}"
            continue
        yield line
        elements = part.reshape(-1).tolist()
        for element in elements[:_SHOWN_ELEMENTS]:
            yield from (f"    {line}" for line in _text(element))
        if len(elements) > _SHOWN_ELEMENTS:
            yield f"    ... ({len(elements) - _SHOWN_ELEMENTS} more)"


def checked_destination(path: Path | None) -> None:
    """Refuse a file name whose form is unknown before any request is made. Raises click.UsageError."""
    if path is not None and path.suffix.lower() not in (".npz", ".npy"):
        raise click.UsageError(f"{path}: write the outputs to a file that ends in .npz, or .npy for a single output")
    if path is not None and not path.parent.is_dir():
        raise click.UsageError(f"{path}: there is no directory {path.parent}")


def write_arrays(path: Path, responses: Sequence[Mapping[str, Array]], *, batched: bool) -> None:
    """Write the outputs of all responses as numpy's ``.npz``, or ``.npy`` where there is one output.

    ``batched`` responses are rows of one batch, and joined. The outputs of several others are named ``0/NAME``,
    ``1/NAME``, and so on. BYTES become numpy's byte strings. Raises click.UsageError and TritonForgeError.
    """
    rows = _joined(responses) if batched else None
    several = len(responses) > 1
    arrays = rows or {
        f"{index}/{name}" if several else name: array
        for index, response in enumerate(responses)
        for name, array in response.items()
    }
    stored = {name: _storable(name, array) for name, array in arrays.items()}
    if path.suffix.lower() == ".npy" and len(stored) != 1:
        raise click.UsageError(f"{path}: a .npy file holds one output, got {', '.join(stored) or 'none'}; write .npz")
    with written(path) as file:
        if path.suffix.lower() == ".npy":
            np.save(_Sink(file), next(iter(stored.values())), allow_pickle=False)
        else:
            buffer = io.BytesIO()
            np.savez(buffer, **stored)
            file.write(buffer.getvalue())


class _Sink:
    """What numpy.save writes to: any object with ``write``."""

    def __init__(self, file: Any) -> None:
        self.write = file.write


def _joined(responses: Sequence[Mapping[str, Array]]) -> dict[str, Array] | None:
    """The rows of all responses, by output; None where they differ in their shapes."""
    try:
        return {name: np.concatenate([response[name] for response in responses]) for name in responses[0]}
    except (ValueError, KeyError):
        return None


def _row(array: Array, row: int | None, rows: int) -> Array:
    """One row of a batch; all of an array that does not have a row for each image, as of a model without batches."""
    return array if row is None or not array.ndim or array.shape[0] != rows else array[row]


def _json_class(entry: Class) -> dict[str, Any]:
    return {
        "score": _json_number(entry.score),
        "index": entry.index,
        **({"label": entry.label} if entry.label else {}),
    }


def _json_tensor(array: Array) -> dict[str, Any]:
    datatype = from_numpy(array.dtype)
    told: dict[str, Any] = {"datatype": datatype.wire if datatype else str(array.dtype), "shape": list(array.shape)}
    flat = array.reshape(-1)
    if array.dtype == object:
        try:
            return {**told, "data": [element.decode() for element in flat.tolist()]}
        except UnicodeDecodeError:
            data = [base64.b64encode(element).decode() for element in flat.tolist()]
            return {**told, "encoding": "base64", "data": data}
    if array.dtype.kind in "biu":
        return {**told, "data": flat.tolist()}
    return {**told, "data": [_json_number(element) for element in flat.astype(np.float64).tolist()]}


def _json_number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _numbers(array: Array) -> str:
    flat = array.reshape(-1)
    elements = flat[:_SHOWN_ELEMENTS]
    kept = elements.tolist() if array.dtype.kind in "biu" else elements.astype(np.float64).tolist()
    shown = ", ".join(f"{each:.6g}" if isinstance(each, float) else str(each).lower() for each in kept)
    return f"{shown} ..." if flat.size > _SHOWN_ELEMENTS else shown


def _text(element: bytes) -> list[str]:
    """The lines of one element of BYTES; of bytes that are no text their start, and how many they are."""
    try:
        text = element.decode()
    except UnicodeDecodeError:
        return [f"{element[:24]!r}{'...' if len(element) > 24 else ''} ({len(element)} bytes)"]
    more = f" ... ({len(text)} characters)" if len(text) > _SHOWN_CHARACTERS else ""
    return (terminal_text(text[:_SHOWN_CHARACTERS]) + more).split("\n")


def _storable(name: str, array: Array) -> Array:
    """The array as numpy stores it without pickle. Raises click.UsageError for bytes that its strings would cut."""
    if array.dtype.name == "bfloat16":
        return array.view(np.dtype("V2"))
    if array.dtype != object:
        return array
    if any(element.endswith(b"\0") for element in array.reshape(-1).tolist()):
        raise click.UsageError(
            f"output {name!r}: numpy's files cut zero bytes off the end of byte strings; use --format json"
        )
    return np.array(array.tolist(), dtype=np.bytes_).reshape(array.shape)
