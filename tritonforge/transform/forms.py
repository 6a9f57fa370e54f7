"""Forms: what is written of an answer: as it is, as JSON lines, as rows of numbers. This module does no I/O.

"container" is the answer as it came, which is what SageMaker stores. "jsonl" is one line of JSON for each answer, with
the model's outputs by name, and for a model that answers with one vector of scores ``probabilities`` and ``classes``,
as TensorFlow's official classifiers have them: ``{"predictions":[{"probabilities":[...],"classes":576}]}``. "npy" and
"parquet" are tables with one row for each record (`tables`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from tritonforge.errors import DecodeError
from tritonforge.inference.wire import Response, decode_response, find_header_length, header_length

__all__ = ["SUFFIXES", "Form", "decoded", "json_lines", "rows"]

Form: TypeAlias = Literal["container", "jsonl", "npy", "parquet"]

#: What is put behind an object's key.
SUFFIXES: Final[Mapping[str, str]] = {"container": ".out", "jsonl": ".out", "npy": ".npy", "parquet": ".parquet"}

#: As the seeds of this form have it: TensorFlow's official ResNet exports.
_SCORES: Final = "probabilities"
_BEST: Final = "classes"


def decoded(body: bytes, headers: Mapping[str, str]) -> Response:
    """A Triton answer; where its content type does not tell where the JSON ends, the body itself does.

    Raises DecodeError for anything else.
    """
    length = header_length(headers, size=len(body))
    if length is None and not body.rstrip().endswith(b"}"):
        length = find_header_length(body)
    return decode_response(body, header_length=length)


def json_lines(body: bytes, headers: Mapping[str, str]) -> bytes:
    """The answer as one line of JSON, without a newline.

    Triton's answers become predictions, one for each entry of the batch; other JSON loses its line breaks. Raises
    DecodeError where the answer is neither.
    """
    if "json" in headers.get("content-type", "json") and not _is_triton(body):
        try:
            return json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"the answer is no JSON: {error}") from error
    outputs = _named(decoded(body, headers))
    count = len(next(iter(outputs.values()))) if outputs else 0
    predictions = [
        "{" + ",".join(f"{json.dumps(name)}:{_text(array[index])}" for name, array in outputs.items()) + "}"
        for index in range(count)
    ]
    return ('{"predictions":[' + ",".join(predictions) + "]}").encode()


def rows(body: bytes, headers: Mapping[str, str]) -> npt.NDArray[Any]:
    """A Triton answer as one structured array: a row for each entry of the batch, a field for each output.

    Raises DecodeError for text, which has no fixed size.
    """
    response = decoded(body, headers)
    if text := [name for name, array in response.outputs.items() if array.dtype == object]:
        raise DecodeError(f"output {text[0]!r} is text, which no table of numbers holds; ask for jsonl")
    outputs = _named(response)
    fields = [(name, array.dtype, array.shape[1:]) for name, array in outputs.items()]
    count = len(next(iter(outputs.values())))
    table = np.empty(count, dtype=np.dtype(fields))
    for name, array in outputs.items():
        table[name] = array
    return table


def _is_triton(body: bytes) -> bool:
    head = body[:2000]
    return b'"outputs"' in head or b'"model_name"' in head


def _named(response: Response) -> dict[str, npt.NDArray[Any]]:
    """The outputs with a first dimension that counts; one vector of scores gets its names, and its best class."""
    outputs = {name: array if array.ndim else array.reshape(1) for name, array in response.outputs.items()}
    if not outputs:
        raise DecodeError("the answer has no outputs")
    counts = {name: len(array) for name, array in outputs.items()}
    if len(set(counts.values())) > 1:
        raise DecodeError(f"the outputs have different numbers of rows: {counts}")
    if len(outputs) == 1:
        (scores,) = outputs.values()
        if scores.ndim == 2 and scores.shape[1] > 1 and np.issubdtype(scores.dtype, np.floating):
            return {_SCORES: scores, _BEST: scores.argmax(axis=1)}
    return outputs


def _text(value: Any) -> str:
    """A value as JSON; a float32 as the shortest number that is it, which is what TensorFlow Serving writes too."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return json.dumps(_plain(value.tolist()), ensure_ascii=False)
        if value.ndim == 1 and np.issubdtype(value.dtype, np.floating) and value.dtype.itemsize <= 4:
            return "[" + ",".join(map(_number, value.astype(np.float32).astype("U").tolist())) + "]"
        if value.ndim:
            return "[" + ",".join(_text(each) for each in value) + "]"
    if isinstance(value, (bytes, str)):
        return json.dumps(_plain(value), ensure_ascii=False)
    if isinstance(value, np.floating):
        return _number(str(np.float32(value)) if value.dtype.itemsize <= 4 else repr(float(value)))
    return json.dumps(value.item() if isinstance(value, (np.generic, np.ndarray)) else value)


#: How JSON's readers know what is no number (Python's, and TensorFlow Serving's documentation of its REST API).
_SPECIAL: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def _number(text: str) -> str:
    return _SPECIAL.get(text, text)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
