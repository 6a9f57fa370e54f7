"""Frozen graphs on TensorFlow's C API, which is in its wheel: the same kernels and optimisations without its Python.

``import tensorflow`` takes 2.7 s of CPU time, of which the libraries are 0.4 s; the rest makes Python modules that a
frozen graph does not use. The file is mapped into memory and read by TensorFlow itself, so that Python makes no objects
of its nodes and no copies of its weights. Inception V3 has the same bits in its outputs either way, and a stub takes
half of the CPU time to be ready.

What TensorFlow refuses here raises `CApiError`. The caller then takes TensorFlow's Python, which decides, and words the
reason: some graphs need what only it brings (``PyFunc``). Declarations: tensorflow/c/{c_api,tf_tensor,tf_status}.h of
the wheel; they are the interface that TensorFlow keeps stable.
"""

from __future__ import annotations

import ctypes
import importlib.util
import mmap
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from tritonforge.datatypes import BY_CONFIG, TYPE_STRING
from tritonforge.model_files.signature import UNSUPPORTED, TensorSpec
from tritonforge.model_files.tensorflow_graph import DATA_TYPES
from tritonforge.serving.backends.requests import Arrays, RequestError

__all__ = ["CApiError", "FrozenGraph", "Node", "find_library", "find_reason", "load_frozen_graph"]

_LIBRARIES: Final = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")

#: `TF_DataType` of a reference to a variable, minus that of its values.
_REFERENCE: Final = 100

#: TSL_INVALID_ARGUMENT
_INVALID_ARGUMENT: Final = 3

#: config name -> `TF_DataType`; strings have a layout of their own (tf_tstring.h).
_NUMBERS: Final[Mapping[str, int]] = {name: number for number, name in DATA_TYPES.items() if name != TYPE_STRING}


class CApiError(Exception):
    """TensorFlow refused a call of its C API."""


class _Buffer(ctypes.Structure):
    _fields_ = (("data", c_void_p), ("length", c_size_t), ("data_deallocator", c_void_p))


class _Output(ctypes.Structure):
    _fields_ = (("operation", c_void_p), ("index", c_int))


@dataclass(frozen=True, slots=True)
class Node:
    """The first output of a node: its handle, its operation, and its type and shape as a configuration has them."""

    output: Any
    operation: str
    spec: TensorSpec


_SIGNATURES: Final[Mapping[str, tuple[Any, ...]]] = {
    # name: result, arguments
    "TF_NewStatus": (c_void_p,),
    "TF_GetCode": (c_int, c_void_p),
    "TF_Message": (c_char_p, c_void_p),
    "TF_NewSessionOptions": (c_void_p,),
    "TF_SetConfig": (None, c_void_p, c_char_p, c_size_t, c_void_p),
    "TF_NewGraph": (c_void_p,),
    "TF_NewSession": (c_void_p, c_void_p, c_void_p, c_void_p),
    "TF_NewImportGraphDefOptions": (c_void_p,),
    "TF_GraphImportGraphDef": (None, c_void_p, POINTER(_Buffer), c_void_p, c_void_p),
    "TF_GraphNextOperation": (c_void_p, c_void_p, POINTER(c_size_t)),
    "TF_OperationName": (c_char_p, c_void_p),
    "TF_OperationOpType": (c_char_p, c_void_p),
    "TF_OperationNumOutputs": (c_int, c_void_p),
    "TF_OperationOutputType": (c_int, _Output),
    "TF_OperationOutputNumConsumers": (c_int, _Output),
    "TF_GraphGetTensorNumDims": (c_int, c_void_p, _Output, c_void_p),
    "TF_GraphGetTensorShape": (None, c_void_p, _Output, POINTER(c_int64), c_int, c_void_p),
    "TF_AllocateTensor": (c_void_p, c_int, POINTER(c_int64), c_int, c_size_t),
    "TF_DeleteTensor": (None, c_void_p),
    "TF_TensorType": (c_int, c_void_p),
    "TF_TensorData": (c_void_p, c_void_p),
    "TF_TensorByteSize": (c_size_t, c_void_p),
    "TF_NumDims": (c_int, c_void_p),
    "TF_Dim": (c_int64, c_void_p, c_int),
    "TF_SessionRun": (
        None, c_void_p, c_void_p, POINTER(_Output), POINTER(c_void_p), c_int,
        POINTER(_Output), POINTER(c_void_p), c_int, c_void_p, c_int, c_void_p, c_void_p,
    ),
}  # fmt: skip


def find_library() -> Path | None:
    """Return the folder of an installed TensorFlow that has the C API in a library, without importing it.

    Raises:
        ModuleNotFoundError: TensorFlow is not installed.
    """
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")
    folder = Path(spec.submodule_search_locations[0])
    return folder if all((folder / name).is_file() for name in _LIBRARIES) else None


@cache
def _load_library(folder: Path) -> Any:
    # As `import tensorflow` does, for the C++ code that asks for it (core/platform/enable_tf2_utils.cc).
    os.environ.setdefault("TF2_BEHAVIOR", "1")
    try:
        *_, library = [ctypes.CDLL(str(folder / name)) for name in _LIBRARIES]
        for name, (result, *arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise CApiError(str(error)) from error
    return library


class FrozenGraph:
    """An imported graph and the session that computes it. ``nodes`` are its nodes with outputs, by name.

    ``inputs`` and ``outputs`` are set by the caller, which compares them with the configuration.
    """

    def __init__(self, library: Any, options: bytes) -> None:
        self._library = library
        self._status = library.TF_NewStatus()
        session_options = library.TF_NewSessionOptions()
        library.TF_SetConfig(session_options, options, len(options), self._status)
        self._check()
        self._graph = library.TF_NewGraph()
        self._session = library.TF_NewSession(self._graph, session_options, self._status)
        self._check()
        self.nodes: dict[str, Node] = {}
        self.inputs: Mapping[str, Node] = {}
        self.outputs: Mapping[str, Node] = {}

    def import_graph(self, path: Path) -> None:
        """Import a GraphDef; its bytes are needed no longer afterwards. Raises CApiError."""
        with path.open("rb") as file:
            try:
                content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise CApiError("the file is empty") from error
        data = np.frombuffer(content, np.uint8)
        buffer = _Buffer(data.ctypes.data, data.size, None)
        options = self._library.TF_NewImportGraphDefOptions()
        self._library.TF_GraphImportGraphDef(self._graph, byref(buffer), options, self._status)
        self._check()
        self.nodes = dict(self._list_nodes())

    def has_consumers(self, node: Node) -> bool:
        """Return True if another node uses this output."""
        return bool(self._library.TF_OperationOutputNumConsumers(node.output))

    def run(self, arrays: Arrays, names: Sequence[str]) -> Arrays:
        """Return the named outputs; raises RequestError with TensorFlow's own reason."""
        library = self._library
        feeds = [self.inputs[name] for name in arrays]
        fetches = [self.outputs[name] for name in names]
        given: list[int] = []
        results = (c_void_p * len(fetches))()
        try:
            given += (self._make_tensor(node, array) for node, array in zip(feeds, arrays.values(), strict=True))
            library.TF_SessionRun(
                self._session,
                None,
                (_Output * len(feeds))(*(node.output for node in feeds)),
                (c_void_p * len(feeds))(*given),
                len(feeds),
                (_Output * len(fetches))(*(node.output for node in fetches)),
                results,
                len(fetches),
                None,
                0,
                None,
                self._status,
            )
        finally:
            for tensor in given:
                library.TF_DeleteTensor(tensor)
        code = library.TF_GetCode(self._status)
        if code:
            raise RequestError(find_reason(self._get_message()), caller=code == _INVALID_ARGUMENT)
        return {name: self._read_tensor(tensor) for name, tensor in zip(names, results, strict=True)}

    def _list_nodes(self) -> Iterator[tuple[str, Node]]:
        library, position = self._library, c_size_t(0)
        while operation := library.TF_GraphNextOperation(self._graph, byref(position)):
            if library.TF_OperationNumOutputs(operation):
                output = _Output(operation, 0)
                name = library.TF_OperationName(operation).decode()
                number = library.TF_OperationOutputType(output) % _REFERENCE
                spec = TensorSpec(name, DATA_TYPES.get(number, UNSUPPORTED), self._read_shape(output))
                yield name, Node(output, library.TF_OperationOpType(operation).decode(), spec)

    def _read_shape(self, output: Any) -> list[int] | None:
        rank = self._library.TF_GraphGetTensorNumDims(self._graph, output, self._status)
        self._check()
        if rank < 0:
            return None
        extents = (c_int64 * rank)()
        self._library.TF_GraphGetTensorShape(self._graph, output, extents, rank, self._status)
        self._check()
        return list(extents)

    def _make_tensor(self, node: Node, array: np.ndarray[Any, Any]) -> int:
        """Return a tensor of TensorFlow with the elements: it needs other alignment than numpy's."""
        if not _fits(array.shape, node.spec.shape):
            declared = tuple(None if extent < 0 else extent for extent in node.spec.shape or ())
            raise RequestError(  # in the words of TensorFlow's Python (client/session.py)
                f"TensorFlow does not take the input: Cannot feed value of shape {array.shape} for Tensor "
                f"{node.spec.name}:0, which has shape {declared}"
            )
        array = np.ascontiguousarray(array)
        extents = (c_int64 * array.ndim)(*array.shape)
        number = _NUMBERS[node.spec.data_type or UNSUPPORTED]
        tensor: int = self._library.TF_AllocateTensor(number, extents, array.ndim, array.nbytes)
        if array.nbytes:
            ctypes.memmove(self._library.TF_TensorData(tensor), array.ctypes.data, array.nbytes)
        return tensor

    def _read_tensor(self, tensor: int) -> np.ndarray[Any, Any]:
        """Return a result as an array that keeps its memory."""
        library = self._library
        shape = [library.TF_Dim(tensor, axis) for axis in range(library.TF_NumDims(tensor))]
        dtype = BY_CONFIG[DATA_TYPES[library.TF_TensorType(tensor)]].dtype
        memory = _TensorMemory(library, tensor)
        return memory.read().view(dtype).reshape(shape)

    def _check(self) -> None:
        if self._library.TF_GetCode(self._status):
            raise CApiError(self._get_message())

    def _get_message(self) -> str:
        message: bytes = self._library.TF_Message(self._status)
        return message.decode(errors="replace")


class _TensorMemory:
    """The memory of a result, freed with the last array that shows it."""

    def __init__(self, library: Any, tensor: int) -> None:
        self._library, self._tensor = library, tensor

    def read(self) -> np.ndarray[Any, Any]:
        """Return its bytes."""
        size = self._library.TF_TensorByteSize(self._tensor)
        if not size:
            return np.empty(0, np.uint8)
        memory = (ctypes.c_uint8 * size).from_address(self._library.TF_TensorData(self._tensor))
        memory.owner = self
        return np.frombuffer(memory, np.uint8)

    def __del__(self) -> None:
        self._library.TF_DeleteTensor(self._tensor)


def load_frozen_graph(folder: Path, path: Path, *, intra_threads: int, inter_threads: int) -> FrozenGraph:
    """Import a GraphDef into a session on the CPU; ``folder`` is of `find_library`, 0 threads are one for each core.

    Raises:
        CApiError: TensorFlow refuses it, or needs its Python for it.
    """
    graph = FrozenGraph(_load_library(folder), _encode_options(intra_threads, inter_threads))
    graph.import_graph(path)
    return graph


def _encode_options(intra_threads: int, inter_threads: int) -> bytes:
    """Return a ConfigProto (tensorflow/core/protobuf/config.proto), equal to the one of TensorFlow's Python here.

    >>> _encode_options(1, 300).hex()
    '100128ac0238018201027001'
    """
    content = bytearray()
    for tag, value in ((2 << 3, intra_threads), (5 << 3, inter_threads)):
        if value:
            content.append(tag)
            while value > 0x7F:
                content.append(value & 0x7F | 0x80)
                value >>= 7
            content.append(value)
    content += bytes([7 << 3, 1])  # allow_soft_placement
    # experimental.disable_output_partition_graphs: else it keeps the graph with its weights for a RunMetadata.
    content += bytes([(16 << 3 | 2) & 0x7F | 0x80, 16 << 3 >> 7, 2, 14 << 3, 1])
    return bytes(content)


def _fits(shape: Sequence[int], declared: Sequence[int] | None) -> bool:
    if declared is None:
        return True
    return len(shape) == len(declared) and all(b in (-1, a) for a, b in zip(shape, declared, strict=True))


def find_reason(text: str) -> str:
    r"""Return the sentence in an error of a session, between the traceback of the graph's creation and the nodes.

    >>> find_reason("1 root error(s).\n  (0) INVALID_ARGUMENT: indices[0] = 9 is not in [0, 4)\n\t [[{{node x}}]]")
    'indices[0] = 9 is not in [0, 4)'
    """
    text = text.split("[[")[0].strip()
    return re.sub(r"^\(\d+\) [A-Z_]+: ", "", text.splitlines()[-1].strip()) if text else ""
