"""BF16 tensors between Triton's python backend and numpy, through DLPack.

The python backend gives every tensor but BF16 as a numpy array: numpy itself has no such type. DLPack carries it
(``kDLBfloat``), so this module reads and makes DLPack capsules of memory on the CPU. Layout: dlpack.h 0.8,
`DLManagedTensor`.
"""

from __future__ import annotations

import ctypes
from typing import Any, Final

import ml_dtypes
import numpy as np

__all__ = ["DTYPE", "array", "tensor"]

DTYPE: Final = np.dtype(ml_dtypes.bfloat16)

_CPU: Final = 1  # kDLCPU
_BFLOAT: Final = 4  # kDLBfloat


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _DLManagedTensor(ctypes.Structure):
    _fields_ = (("tensor", _DLTensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))


_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)

_NAME: Final = b"dltensor"  # one object for good: a capsule keeps the pointer to its name

#: What capsules point to, until their consumer calls the deleter.
_lent: dict[int, tuple[Any, ...]] = {}


_give_back = _Deleter(lambda address: _lent.pop(address, None) and None)


def array(tensor: Any) -> np.ndarray[Any, Any]:
    """A copy of a Triton tensor of BF16, as an array of ml_dtypes' bfloat16."""
    capsule = tensor.to_dlpack()
    description = _DLManagedTensor.from_address(_pointer(capsule, _NAME)).tensor
    shape = tuple(description.shape[axis] for axis in range(description.ndim))
    count = int(np.prod(shape, dtype=np.int64))
    if count == 0:
        return np.empty(shape, DTYPE)
    content = ctypes.string_at(description.data + description.byte_offset, count * DTYPE.itemsize)
    return np.frombuffer(content, DTYPE).reshape(shape)


class _Exporter:
    """An object with the two methods of the DLPack protocol."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return (_CPU, 0)

    def __dlpack__(self, *, stream: object = None) -> object:
        shape = (ctypes.c_int64 * self._array.ndim)(*self._array.shape)
        managed = _DLManagedTensor()
        managed.tensor.data = self._array.ctypes.data
        managed.tensor.device_type = _CPU
        managed.tensor.ndim = self._array.ndim
        managed.tensor.code, managed.tensor.bits, managed.tensor.lanes = _BFLOAT, 16, 1
        managed.tensor.shape = shape
        managed.deleter = _give_back
        address = ctypes.addressof(managed)
        _lent[address] = (managed, shape, self._array)
        return _new(address, _NAME, None)


def tensor(name: str, array: np.ndarray[Any, Any]) -> Any:
    """A Triton tensor of an array of bfloat16."""
    import triton_python_backend_utils as pb_utils

    return pb_utils.Tensor.from_dlpack(name, _Exporter(np.ascontiguousarray(array)))
