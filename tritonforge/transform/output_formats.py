"""Output formats: what is written of a response. The only files it touches are the spool files that it is given.

"container" is the response as it came, which is what SageMaker stores. "jsonl" is one line of JSON per response, with
the model's outputs by name; for a model that returns one vector of scores these are ``probabilities`` and ``classes``,
as in TensorFlow's official classifiers: ``{"predictions":[{"probabilities":[...],"classes":576}]}``. "npy" and
"parquet" are tables with one row per record and one column per output. Tables are spooled in numpy's file format and
become a .npy or a Parquet file when the object is complete. Source: numpy.lib.format, "Format Version 1.0".
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from tritonforge.errors import DecodeError, MissingExtraError
from tritonforge.inference.wire import Response, decode_response, find_header_length, header_length

__all__ = [
    "SUFFIXES", "OutputFormat", "build_npy_header", "build_rows", "check_parquet", "finish_npy", "finish_parquet",
    "format_json_line", "read_dtype",
]  # fmt: skip

OutputFormat: TypeAlias = Literal["container", "jsonl", "npy", "parquet"]

#: What is appended to an object's key.
SUFFIXES: Final[Mapping[str, str]] = {"container": ".out", "jsonl": ".out", "npy": ".npy", "parquet": ".parquet"}

#: The names of outputs in TensorFlow's official ResNet exports.
_SCORES: Final = "probabilities"
_BEST: Final = "classes"

#: How JSON writes what is not a number (Python, and TensorFlow Serving's documentation of its REST API).
_SPECIAL_NUMBERS: Final = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}

_MAGIC: Final = b"\x93NUMPY\x01\x00"
_ALIGNMENT: Final = 64

#: The largest number of rows of a table; the header is as long as this number requires.
_MAX_ROWS: Final = 2**63

#: Bytes of rows that become one row group of a Parquet file.
_ROW_GROUP: Final = 16 << 20


def format_json_line(body: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a response as one line of JSON, without a newline.

    Triton's responses become predictions, one for each entry of the batch; other JSON is written without line breaks.
    Raises DecodeError if the response is neither.
    """
    if "json" in headers.get("content-type", "json") and not _is_triton(body):
        try:
            return json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"the response is not JSON: {error}") from error
    outputs = _name_outputs(_decode(body, headers))
    count = len(next(iter(outputs.values()))) if outputs else 0
    predictions = [
        "{" + ",".join(f"{json.dumps(name)}:{_format_value(array[index])}" for name, array in outputs.items()) + "}"
        for index in range(count)
    ]
    return ('{"predictions":[' + ",".join(predictions) + "]}").encode()


def build_rows(body: bytes, headers: Mapping[str, str]) -> npt.NDArray[Any]:
    """Return a Triton response as one structured array: a row for each entry of the batch, a field for each output.

    Raises DecodeError for text, whose size is not fixed.
    """
    response = _decode(body, headers)
    if text := [name for name, array in response.outputs.items() if array.dtype == object]:
        raise DecodeError(f"output {text[0]!r} is text, which a table of numbers cannot hold; choose jsonl")
    outputs = _name_outputs(response)
    fields = [(name, array.dtype, array.shape[1:]) for name, array in outputs.items()]
    table = np.empty(len(next(iter(outputs.values()))), dtype=np.dtype(fields))
    for name, array in outputs.items():
        table[name] = array
    return table


def _decode(body: bytes, headers: Mapping[str, str]) -> Response:
    """Decode a Triton response. If its content type does not give the length of its JSON, the body itself does."""
    length = header_length(headers, size=len(body))
    if length is None and not body.rstrip().endswith(b"}"):
        length = find_header_length(body)
    return decode_response(body, header_length=length)


def _is_triton(body: bytes) -> bool:
    head = body[:2000]
    return b'"outputs"' in head or b'"model_name"' in head


def _name_outputs(response: Response) -> dict[str, npt.NDArray[Any]]:
    """Return the outputs with a batch dimension; a single vector of scores gets its names and its best class."""
    outputs = {name: array if array.ndim else array.reshape(1) for name, array in response.outputs.items()}
    if not outputs:
        raise DecodeError("the response has no outputs")
    counts = {name: len(array) for name, array in outputs.items()}
    if len(set(counts.values())) > 1:
        raise DecodeError(f"the outputs have different numbers of rows: {counts}")
    if len(outputs) == 1:
        (scores,) = outputs.values()
        if scores.ndim == 2 and scores.shape[1] > 1 and np.issubdtype(scores.dtype, np.floating):
            return {_SCORES: scores, _BEST: scores.argmax(axis=1)}
    return outputs


def _format_value(value: Any) -> str:
    """Return a value as JSON; a float32 as the shortest number that equals it, as TensorFlow Serving writes it."""
    if isinstance(value, np.ndarray):
        if value.dtype == object:
            return json.dumps(_decode_text(value.tolist()), ensure_ascii=False)
        if value.ndim == 1 and np.issubdtype(value.dtype, np.floating) and value.dtype.itemsize <= 4:
            texts = value.astype(np.float32).astype("U").tolist()
            return "[" + ",".join(_SPECIAL_NUMBERS.get(text, text) for text in texts) + "]"
        if value.ndim:
            return "[" + ",".join(_format_value(item) for item in value) + "]"
    if isinstance(value, (bytes, str)):
        return json.dumps(_decode_text(value), ensure_ascii=False)
    if isinstance(value, np.floating):
        text = str(np.float32(value)) if value.dtype.itemsize <= 4 else repr(float(value))
        return _SPECIAL_NUMBERS.get(text, text)
    return json.dumps(value.item() if isinstance(value, (np.generic, np.ndarray)) else value)


def _decode_text(value: Any) -> Any:
    if isinstance(value, list):
        return [_decode_text(item) for item in value]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def build_npy_header(dtype: np.dtype[Any], count: int = 0) -> bytes:
    """Return the header of a .npy file; its length does not depend on the number of rows."""
    description = _describe_table(dtype, count)
    size = len(_describe_table(dtype, _MAX_ROWS)) + len(_MAGIC) + 3
    size += -size % _ALIGNMENT
    text = description.ljust(size - len(_MAGIC) - 3) + b"\n"
    return _MAGIC + len(text).to_bytes(2, "little") + text


def read_dtype(path: Path) -> np.dtype[Any]:
    """Return the columns of a spooled table."""
    with path.open("rb") as file:
        return _read_npy_header(file)


def finish_npy(spool: bytes | Path) -> bytes | Path:
    """Return a spool as a .npy file; a file is changed itself. Raises OSError."""
    if not spool:
        buffer = io.BytesIO()
        np.save(buffer, np.empty(0))
        return buffer.getvalue()
    if isinstance(spool, bytes):
        dtype = _read_npy_header(io.BytesIO(spool))
        start = len(build_npy_header(dtype))
        return build_npy_header(dtype, (len(spool) - start) // dtype.itemsize) + spool[start:]
    dtype = read_dtype(spool)
    with spool.open("r+b") as file:
        size = file.seek(0, os.SEEK_END) - len(build_npy_header(dtype))
        file.seek(0)
        file.write(build_npy_header(dtype, size // dtype.itemsize))
    return spool


def finish_parquet(spool: bytes | Path) -> bytes | Path:
    """Return a spool as a Parquet file, written one row group at a time. Raises OSError and MissingExtraError."""
    arrow, parquet = _import_pyarrow()
    if isinstance(spool, bytes):
        target = io.BytesIO()
        if spool:
            _write_parquet(io.BytesIO(spool), target, arrow, parquet)
        else:
            parquet.write_table(arrow.table({}), target)
        return target.getvalue()
    path = spool.with_name(f"{spool.name}.parquet")
    with spool.open("rb") as source, path.open("wb") as file:
        _write_parquet(source, file, arrow, parquet)
    spool.unlink()
    return path


def check_parquet() -> None:
    """Raise MissingExtraError if pyarrow is not installed."""
    _import_pyarrow()


def _import_pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", extra="parquet") from error
    return pa, pq


def _write_parquet(source: BinaryIO, target: BinaryIO, arrow: Any, parquet: Any) -> None:
    dtype = _read_npy_header(source)
    count = max(1, _ROW_GROUP // dtype.itemsize)
    writer = None
    while True:
        rows = np.frombuffer(source.read(count * dtype.itemsize), dtype)
        if not len(rows) and writer is not None:
            break
        columns = {name: _build_column(np.ascontiguousarray(rows[name]), arrow) for name in dtype.names or ()}
        table = arrow.table(columns)
        if writer is None:
            writer = parquet.ParquetWriter(target, table.schema)
        writer.write_table(table)
    writer.close()


def _build_column(values: npt.NDArray[Any], arrow: Any) -> Any:
    """Return an array of any number of dimensions: each dimension after the first is a list of a fixed size."""
    column = arrow.array(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        column = arrow.FixedSizeListArray.from_arrays(column, size)
    return column


def _describe_table(dtype: np.dtype[Any], count: int) -> bytes:
    description = np.lib.format.dtype_to_descr(dtype)  # type: ignore[no-untyped-call]  # numpy 1 has no types for it
    return f"{{'descr': {description!r}, 'fortran_order': False, 'shape': ({count},), }}".encode("latin1")


def _read_npy_header(file: BinaryIO) -> np.dtype[Any]:
    try:
        np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]  # as above
        dtype: np.dtype[Any] = np.lib.format.read_array_header_1_0(file)[2]  # type: ignore[no-untyped-call]
        return dtype
    except ValueError as error:
        raise DecodeError(f"the table that an earlier run began is damaged: {error}") from error
