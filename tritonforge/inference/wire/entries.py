"""The tensor entries of a JSON header, read together with the binary tensors behind it. This module does no I/O."""

from __future__ import annotations

from tritonforge.errors import DecodeError
from tritonforge.inference.wire.documents import (
    Parameter,
    read_list,
    read_object,
    read_parameters,
    read_shape,
    read_string,
    read_unsigned,
)
from tritonforge.inference.wire.tensors import Array, Buffer, from_binary, from_json, named_datatype

__all__ = ["read_tensors"]


def read_tensors(
    body: Buffer, start: int, entries: list[object], *, role: str
) -> tuple[dict[str, Array], dict[str, dict[str, Parameter]]]:
    """The arrays of all entries, and the parameters of those that have some, by name.

    ``body[start:]`` holds the binary tensors back to back in the order of the entries; ``role`` is "input" or "output".
    Raises DecodeError.
    """
    arrays: dict[str, Array] = {}
    all_parameters: dict[str, dict[str, Parameter]] = {}
    at = start
    for index, value in enumerate(entries):
        where = f"{role}s[{index}]"
        entry = read_object(value, where=where)
        name = read_string(entry, "name", where=where)
        where = f"{role} {name!r}" if name else where
        if name in arrays:
            raise DecodeError(f"{where}: the name stands twice among the {role}s")
        datatype = named_datatype(read_string(entry, "datatype", where=where), where=where)
        shape = read_shape(entry, where=where)
        parameters = read_parameters(entry, where=where)
        if "shared_memory_region" in parameters:
            raise DecodeError(f"{where}: its data are in shared memory, not in the body")
        size = read_unsigned(parameters, "binary_data_size", where=where)
        if size is None:
            arrays[name] = from_json(read_list(entry, "data", where=where), datatype, shape, where=where)
        elif "data" in entry:
            raise DecodeError(f"{where}: expected 'data' or 'binary_data_size', found both")
        else:
            del parameters["binary_data_size"]
            if size > len(body) - at:
                raise DecodeError(
                    f"{where}: 'binary_data_size' is {size}, but {len(body) - at} bytes are left of the body"
                )
            arrays[name] = from_binary(body, at, at + size, datatype, shape, where=where)
            at += size
        if parameters:
            all_parameters[name] = parameters
    if at != len(body):
        raise DecodeError(f"expected the body to end with the last {role}, found {len(body) - at} bytes after it")
    return arrays, all_parameters
