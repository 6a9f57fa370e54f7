"""Tables: rows of numbers gather in numpy's file format, and become a .npy or a Parquet file when the object is whole.

A table has one column for each output of the model. Source of the format: numpy.lib.format, "Format Version 1.0".
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from tritonforge.errors import DecodeError, MissingExtraError

__all__ = ["check_parquet", "dtype_of", "finished_npy", "finished_parquet", "header"]

_MAGIC: Final = b"\x93NUMPY\x01\x00"
_ALIGNMENT: Final = 64

#: As many rows as a table can have; the header is as long as it needs to be for them.
_MOST: Final = 2**63

#: Bytes of rows that are turned into Parquet at once, as one row group.
_GROUP: Final = 16 << 20


def header(dtype: np.dtype[Any], count: int = 0) -> bytes:
    """What stands before the rows; its length does not depend on their number."""
    written = _written(dtype, count)
    size = len(_written(dtype, _MOST)) + len(_MAGIC) + 3
    size += -size % _ALIGNMENT
    text = written.ljust(size - len(_MAGIC) - 3) + b"\n"
    return _MAGIC + len(text).to_bytes(2, "little") + text


def dtype_of(path: Path) -> np.dtype[Any]:
    """The columns of a table that was begun."""
    with path.open("rb") as file:
        return _read_header(file)


def finished_npy(stage: bytes | Path) -> bytes | Path:
    """The stage as a .npy file, in place where it is a file; raises OSError."""
    if not stage:
        buffer = io.BytesIO()
        np.save(buffer, np.empty(0))
        return buffer.getvalue()
    if isinstance(stage, bytes):
        dtype = _read_header(io.BytesIO(stage))
        start = len(header(dtype))
        return header(dtype, (len(stage) - start) // dtype.itemsize) + stage[start:]
    dtype = dtype_of(stage)
    with stage.open("r+b") as file:
        size = file.seek(0, os.SEEK_END) - len(header(dtype))
        file.seek(0)
        file.write(header(dtype, size // dtype.itemsize))
    return stage


def finished_parquet(stage: bytes | Path) -> bytes | Path:
    """The stage as a Parquet file, a group of rows at a time; raises OSError, and MissingExtraError without pyarrow."""
    arrow, parquet = _pyarrow()
    if isinstance(stage, bytes):
        target = io.BytesIO()
        if stage:
            _convert(io.BytesIO(stage), target, arrow, parquet)
        else:
            parquet.write_table(arrow.table({}), target)
        return target.getvalue()
    path = stage.with_name(f"{stage.name}.parquet")
    with stage.open("rb") as source, path.open("wb") as file:
        _convert(source, file, arrow, parquet)
    stage.unlink()
    return path


def check_parquet() -> None:
    """Raise MissingExtraError where pyarrow is not installed."""
    _pyarrow()


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("pyarrow", extra="parquet") from error
    return pa, pq


def _convert(source: BinaryIO, target: BinaryIO, arrow: Any, parquet: Any) -> None:
    dtype = _read_header(source)
    count = max(1, _GROUP // dtype.itemsize)
    writer = None
    while True:
        rows = np.frombuffer(source.read(count * dtype.itemsize), dtype)
        if not len(rows) and writer is not None:
            break
        table = arrow.table({name: _column(np.ascontiguousarray(rows[name]), arrow) for name in dtype.names or ()})
        if writer is None:
            writer = parquet.ParquetWriter(target, table.schema)
        writer.write_table(table)
    writer.close()


def _column(values: npt.NDArray[Any], arrow: Any) -> Any:
    """An array of any number of dimensions: each dimension after the first is a list of a fixed size."""
    column = arrow.array(values.reshape(-1))
    for size in reversed(values.shape[1:]):
        column = arrow.FixedSizeListArray.from_arrays(column, size)
    return column


def _written(dtype: np.dtype[Any], count: int) -> bytes:
    description = np.lib.format.dtype_to_descr(dtype)  # type: ignore[no-untyped-call]  # numpy 1 has no types for it
    return f"{{'descr': {description!r}, 'fortran_order': False, 'shape': ({count},), }}".encode("latin1")


def _read_header(file: BinaryIO) -> np.dtype[Any]:
    try:
        np.lib.format.read_magic(file)  # type: ignore[no-untyped-call]  # as above
        dtype: np.dtype[Any] = np.lib.format.read_array_header_1_0(file)[2]  # type: ignore[no-untyped-call]
        return dtype
    except ValueError as error:
        raise DecodeError(f"the table that an earlier run began is damaged: {error}") from error
