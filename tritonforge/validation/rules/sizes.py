"""Element counts and byte sizes of tensors as the server counts them, before and after they were bounded. No I/O.

Source: common include/triton/common/model_config.h GetElementCount, GetByteSize; core model_config_utils.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tritonforge.datatypes import BY_CONFIG

__all__ = ["INVALID", "LARGEST", "OVERFLOW", "VARIABLE", "bounded_byte_size", "bounded_count", "wrapped_count"]

#: The largest element count and byte size.
LARGEST: Final = 2**63 - 1

#: What a size is where it is none: it depends on the request, a dimension is no size, it does not fit into 64 bits.
VARIABLE: Final = -1
INVALID: Final = -2
OVERFLOW: Final = -3

#: Bytes of the length before each element of a tensor of strings.
_LENGTH: Final = 4


def wrapped_count(dims: Sequence[int]) -> int:
    """The element count up to 26.02: 64 bits that wrap around, 0 without dims, -1 with a variable-size dimension."""
    if -1 in dims:
        return VARIABLE
    count = 1 if dims else 0
    for dim in dims:
        count *= dim
    return (count + 2**63) % 2**64 - 2**63


def bounded_count(dims: Sequence[int]) -> int:
    """The element count from 26.03 on; `VARIABLE`, `INVALID` or `OVERFLOW` where the first such dimension is met."""
    count = 0
    for index, dim in enumerate(dims):
        if dim == -1:
            return VARIABLE
        if dim < 0:
            return INVALID
        if index and dim and count > LARGEST // dim:
            return OVERFLOW
        count = count * dim if index else dim
    return count


def bounded_byte_size(data_type: str, dims: Sequence[int]) -> int:
    """The byte size from 26.03 on, as `bounded_count`; `VARIABLE` also for a type that has no size.

    Strings count 4 bytes for each element (core model_config_utils.h `GetByteSize`).
    """
    known = BY_CONFIG.get(data_type)
    if known is None:
        return VARIABLE
    count, size = bounded_count(dims), _LENGTH if known.size is None else known.size
    return OVERFLOW if count > LARGEST // size else count * size if count >= 0 else count
