"""The recording of a case: what was sent, and what every step and the model answered. This module does no I/O.

The document is JSON, one line for each row of numbers, so that a change can be read in a diff.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge.datatypes import BY_WIRE
from tritonforge.errors import CaseError
from tritonforge.golden_tests.cases import parse_json
from tritonforge.golden_tests.tensor_record import Summary, TensorRecord, encode_base64, hash_tensor

__all__ = ["FORMAT", "InputRecord", "Recording", "StepRecord", "parse_recording", "render_recording"]

Array = npt.NDArray[Any]

#: The version of the document.
FORMAT: Final = 1

_SPECIAL: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_STATISTICS: Final = ("minimum", "maximum", "mean", "deviation")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_RANK: Final = 32


@dataclass(frozen=True, slots=True)
class InputRecord:
    """An input that was sent: its KServe datatype, its shape, and the digest of its elements."""

    datatype: str
    shape: tuple[int, ...]
    digest: str


@dataclass(frozen=True, slots=True)
class StepRecord:
    """A step: its model, where each input comes from, and its outputs by name."""

    name: str
    model: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, TensorRecord]


@dataclass(frozen=True, slots=True)
class Recording:
    """The recording of a case: ``steps`` in the order of the data flow, ``outputs`` of the model itself.

    ``sources`` is the ``step.output`` that each output of an ensemble is.
    """

    model: str
    inputs: Mapping[str, InputRecord]
    steps: tuple[StepRecord, ...]
    sources: Mapping[str, str]
    outputs: Mapping[str, TensorRecord]


def render_recording(recording: Recording) -> str:
    """Return the recording as a JSON document."""
    return (
        _render(
            {
                "format": FORMAT,
                "model": recording.model,
                "inputs": {
                    name: {"datatype": entry.datatype, "shape": list(entry.shape), "digest": entry.digest}
                    for name, entry in recording.inputs.items()
                },
                "steps": [
                    {
                        "step": step.name,
                        "model": step.model,
                        "inputs": dict(step.inputs),
                        "outputs": {name: _tensor_to_json(record) for name, record in step.outputs.items()},
                    }
                    for step in recording.steps
                ],
                "sources": dict(recording.sources),
                "outputs": {name: _tensor_to_json(record) for name, record in recording.outputs.items()},
            }
        )
        + "\n"
    )


def parse_recording(text: str, *, where: str) -> Recording:
    """Return the recording in a JSON document. Raises CaseError for any other text."""
    document = parse_json(text, where)
    try:
        if _get(document, "format", int) != FORMAT:
            raise _MismatchError(f"format is {document['format']} (expected {FORMAT})")
        return Recording(
            model=_get(document, "model", str),
            inputs={
                name: InputRecord(_read_datatype(entry), _read_shape(entry), _read_digest(entry, "digest"))
                for name, entry in _get(document, "inputs", dict).items()
            },
            steps=tuple(
                StepRecord(
                    _get(step, "step", str),
                    _get(step, "model", str),
                    _read_names(step, "inputs"),
                    _read_tensors(step),
                )
                for step in _get(document, "steps", list)
            ),
            sources=_read_names(document, "sources"),
            outputs=_read_tensors(document),
        )
    except (_MismatchError, ValueError, OverflowError, binascii.Error) as error:
        raise CaseError(f"{where}: this is not a recording: {error}. Record it again with --update") from error


class _MismatchError(Exception):
    """A document is not a recording."""


def _tensor_to_json(record: TensorRecord) -> dict[str, Any]:
    document: dict[str, Any] = {"datatype": record.datatype, "shape": list(record.shape)}
    if record.labels:
        document["labels"] = {str(index): label for index, label in sorted(record.labels.items())}
    if record.values is not None:
        return {**document, **_values_to_json(record.values)}
    document["digest"] = record.digest
    summary = record.summary
    if summary is None:
        return document
    document["rounded"] = {"quantum": summary.quantum, "digest": summary.rounded_digest}
    document["statistics"] = {name: getattr(summary, name) for name in _STATISTICS}
    if any(summary.special):
        document["special"] = list(summary.special)
    document |= {
        "samples": _numbers_to_json(_restore_datatype(summary.samples, record.datatype)),
        "part_means": _numbers_to_json(summary.part_means),
        "part_magnitudes": _numbers_to_json(summary.part_magnitudes),
    }
    if record.best:
        document["best"] = [list(row) for row in record.best]
    if record.thumbnail is not None:
        document["thumbnail"] = {"shape": list(record.thumbnail.shape), "data": encode_base64(record.thumbnail)}
    return document


def _values_to_json(array: Array) -> dict[str, Any]:
    if array.dtype == object:
        elements = array.reshape(-1).tolist()
        try:
            return {"values": _nest([element.decode() for element in elements], array.shape)}
        except UnicodeDecodeError:
            encoded = [base64.b64encode(element).decode() for element in elements]
            return {"encoding": "base64", "values": _nest(encoded, array.shape)}
    return {"values": _nest(_numbers_to_json(array.reshape(-1)), array.shape)}


def _numbers_to_json(array: Array) -> list[Any]:
    """Return the shortest JSON numbers that are the elements; NaN and infinities are strings, as in `infer`."""
    if array.dtype.kind in "biu":
        return list(array.tolist())
    names = {str(value): name for name, value in _SPECIAL.items()}
    texts = [str(element) for element in array]
    return [names.get(text) or float(text) for text in texts]


def _restore_datatype(samples: Array, datatype: str) -> Array:
    """Return samples in the datatype of their tensor, in which their numbers are shorter; booleans are 0 and 1."""
    return samples.astype(BY_WIRE[datatype].dtype if datatype != "BOOL" else np.uint8)


def _nest(elements: Sequence[Any], shape: tuple[int, ...]) -> Any:
    """Return a flat list as nested lists of a shape."""
    if not shape:
        return elements[0]
    nested: list[Any] = list(elements)
    for length in reversed(shape[1:]):
        count = len(nested) // length if length else 0
        nested = [nested[index * length : (index + 1) * length] for index in range(count)]
    return nested


def _flatten(value: Any) -> list[Any]:
    level = [value]
    for _ in range(_MOST_RANK + 1):
        if not any(isinstance(entry, list) for entry in level):
            return level
        level = [leaf for entry in level for leaf in (entry if isinstance(entry, list) else [entry])]
    raise _MismatchError("values are nested too deeply")


def _read_names(document: Any, key: str) -> dict[str, str]:
    return {name: _check(entry, str, key) for name, entry in _get(document, key, dict).items()}


def _read_tensors(document: Any) -> dict[str, TensorRecord]:
    return {name: _read_tensor(entry) for name, entry in _get(document, "outputs", dict).items()}


def _read_tensor(document: Any) -> TensorRecord:
    datatype, shape = _read_datatype(document), _read_shape(document)
    labels = {
        int(index): _check(label, str, "labels") for index, label in _get(document, "labels", dict, default={}).items()
    }
    if "values" in document:
        values = _read_values(document, datatype, shape)
        return TensorRecord(datatype, shape, hash_tensor(values), values=values, labels=labels)
    digest = _read_digest(document, "digest")
    if "statistics" not in document:
        return TensorRecord(datatype, shape, digest, labels=labels)
    rounded, statistics = _get(document, "rounded", dict), _get(document, "statistics", dict)
    numbers = {
        key: np.array(_read_numbers(_get(document, key, list))) for key in ("samples", "part_means", "part_magnitudes")
    }
    special = [_check(count, int, "special") for count in _get(document, "special", list, default=[0, 0, 0])]
    if len(special) != 3:
        raise _MismatchError("special is not a list of three counts")
    summary = Summary(
        quantum=_read_number(rounded.get("quantum")),
        rounded_digest=_read_digest(rounded, "digest"),
        minimum=_read_number(statistics.get("minimum")),
        maximum=_read_number(statistics.get("maximum")),
        mean=_read_number(statistics.get("mean")),
        deviation=_read_number(statistics.get("deviation")),
        special=(special[0], special[1], special[2]),
        samples=numbers["samples"],
        part_means=numbers["part_means"],
        part_magnitudes=numbers["part_magnitudes"],
    )
    best = tuple(
        tuple(_check(index, int, "best") for index in _check(row, list, "best"))
        for row in _get(document, "best", list, default=[])
    )
    return TensorRecord(
        datatype, shape, digest, None, summary, best, labels, _read_thumbnail(document.get("thumbnail"))
    )


def _read_thumbnail(document: Any) -> Array | None:
    if document is None:
        return None
    shape = _read_shape(document)
    pixels = np.frombuffer(base64.b64decode(_get(document, "data", str), validate=True), np.uint8)
    if len(shape) != 3 or pixels.size != math.prod(shape):
        raise _MismatchError("thumbnail: the data do not have the shape")
    return pixels.reshape(shape)


def _read_values(document: Any, datatype: str, shape: tuple[int, ...]) -> Array:
    leaves = _flatten(document["values"])
    if len(leaves) != math.prod(shape):
        raise _MismatchError(f"values has {len(leaves)} elements for shape {list(shape)}")
    target = BY_WIRE[datatype].dtype
    if datatype == "BYTES":
        array = np.empty(len(leaves), dtype=object)
        is_base64 = document.get("encoding") == "base64"
        texts = [_check(leaf, str, "values") for leaf in leaves]
        array[:] = [base64.b64decode(text, validate=True) if is_base64 else text.encode() for text in texts]
    elif datatype == "BOOL" or target.kind in "iu":
        array = np.array([_check(leaf, (bool, int), "values") for leaf in leaves]).astype(target)
    else:
        array = np.array(_read_numbers(leaves)).astype(target)
    return array.reshape(shape)


def _read_numbers(entries: list[Any]) -> list[float]:
    return [_read_number(entry) for entry in entries]


def _read_number(entry: Any) -> float:
    if isinstance(entry, str) and entry in _SPECIAL:
        return _SPECIAL[entry]
    if isinstance(entry, bool) or not isinstance(entry, int | float):
        raise _MismatchError(f"expected a number, got {type(entry).__name__}")
    return float(entry)


def _read_datatype(document: Any) -> str:
    datatype: str = _get(document, "datatype", str)
    if datatype not in BY_WIRE:
        raise _MismatchError(f"datatype is {datatype[:40]!r} (expected {', '.join(BY_WIRE)})")
    return datatype


def _read_shape(document: Any) -> tuple[int, ...]:
    shape = _get(document, "shape", list)
    if len(shape) > _MOST_RANK or not all(type(length) is int and 0 <= length < 2**40 for length in shape):
        raise _MismatchError("shape is not a list of lengths")
    return tuple(shape)


def _read_digest(document: Any, key: str) -> str:
    digest: str = _get(document, key, str)
    if not _DIGEST.fullmatch(digest):
        raise _MismatchError(f"{key} is not a SHA-256")
    return digest


def _get(document: Any, key: str, expected: type, *, default: Any = None) -> Any:
    if not isinstance(document, dict):
        raise _MismatchError(f"{key}: expected an object, got {type(document).__name__}")
    value = document.get(key, default)
    if value is None:
        raise _MismatchError(f"{key} is missing")
    return _check(value, expected, key)


def _check(value: Any, expected: type | tuple[type, ...], key: str) -> Any:
    if not isinstance(value, expected) or (isinstance(value, bool) and expected is int):
        raise _MismatchError(f"{key} has a {type(value).__name__}")
    return value


def _render(value: Any, indent: int = 0) -> str:
    """Return JSON with a line for each member of an object and for each innermost list."""
    inner, outer = "  " * (indent + 1), "  " * indent
    if isinstance(value, dict) and value:
        members = [f"{inner}{json.dumps(key)}: {_render(entry, indent + 1)}" for key, entry in value.items()]
        return "{\n" + ",\n".join(members) + f"\n{outer}}}"
    if isinstance(value, list) and any(isinstance(entry, dict | list) for entry in value):
        return "[\n" + ",\n".join(f"{inner}{_render(entry, indent + 1)}" for entry in value) + f"\n{outer}]"
    return json.dumps(value, ensure_ascii=False)
