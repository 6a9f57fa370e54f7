"""Tensors of a Python stub as arrays, and arrays as its tensors, through DLPack.

The stub of nvidia-pytriton 0.7.0 is compiled for numpy 1: with numpy 2 it reads the size of an element from the wrong
place, so that ``as_numpy`` and ``pb_utils.Tensor(name, array)`` give wrong or empty data. DLPack needs no numpy, and it
carries BF16, which numpy itself does not have. It has no strings: those need numpy 1. Layout: dlpack.h 0.8,
`DLManagedTensor`; codes: python_backend src/pb_stub_utils.cc `dlpack_to_triton_type`.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, Final

import ml_dtypes
import numpy as np

__all__ = ["BFLOAT16", "make_tensor", "read_tensor", "view_tensor"]

BFLOAT16: Final = np.dtype(ml_dtypes.bfloat16)

_CPU: Final = 1  # kDLCPU
_BFLOAT: Final = 4  # kDLBfloat
#: Codes of element types by numpy's kinds: kDLInt, kDLUInt, kDLFloat, kDLBool.
_CODES: Final = {"i": 0, "u": 1, "f": 2, "b": 6}
_KINDS: Final = {code: kind for kind, code in _CODES.items()}


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


_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_get_pointer.restype, _get_pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)

_CAPSULE_NAME: Final = b"dltensor"  # one object for good: a capsule keeps the pointer to its name

#: What capsules point to, until their consumer calls the deleter.
_exported: dict[int, tuple[Any, ...]] = {}


_release = _Deleter(lambda address: _exported.pop(address, None) and None)


def read_tensor(tensor: Any) -> np.ndarray[Any, Any]:
    """Return a copy of a Triton tensor of any type but BYTES; BF16 as an array of ml_dtypes' bfloat16."""
    return view_tensor(tensor).copy()


def view_tensor(tensor: Any) -> np.ndarray[Any, Any]:
    """Return the tensor's own memory as an array that cannot be written to: it is valid until ``execute`` returns."""
    capsule = tensor.to_dlpack()
    description = _DLManagedTensor.from_address(_get_pointer(capsule, _CAPSULE_NAME)).tensor
    shape = description.shape[: description.ndim]
    size = description.bits // 8
    dtype = BFLOAT16 if description.code == _BFLOAT else np.dtype(f"{_KINDS[description.code]}{size}")
    count = math.prod(shape) * size
    if not count:
        return np.empty(shape, dtype)
    memory = (ctypes.c_uint8 * count).from_address(description.data + description.byte_offset)
    memory.capsule = capsule
    array = np.frombuffer(memory, np.uint8).view(dtype).reshape(shape)
    array.flags.writeable = False
    return array


class _Exporter:
    """An object with the two methods of the DLPack protocol."""

    def __init__(self, array: np.ndarray[Any, Any]) -> None:
        self._array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return (_CPU, 0)

    def __dlpack__(self, *, stream: object = None) -> object:
        array = self._array
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        managed = _DLManagedTensor()
        managed.tensor.data = array.ctypes.data
        managed.tensor.device_type = _CPU
        managed.tensor.ndim = array.ndim
        managed.tensor.code = _BFLOAT if array.dtype == BFLOAT16 else _CODES[array.dtype.kind]
        managed.tensor.bits, managed.tensor.lanes = 8 * array.dtype.itemsize, 1
        managed.tensor.shape = shape
        managed.deleter = _release
        address = ctypes.addressof(managed)
        _exported[address] = (managed, shape, array)
        return _new_capsule(address, _CAPSULE_NAME, None)


def make_tensor(name: str, array: np.ndarray[Any, Any]) -> Any:
    """Return a Triton tensor of a contiguous array of any type but object; it keeps the array."""
    import triton_python_backend_utils as pb_utils

    return pb_utils.Tensor.from_dlpack(name, _Exporter(array))
