"""GraphDef and SavedModel files of TensorFlow, written without TensorFlow, whose import takes seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_FLOAT = 1  # tensorflow/core/framework/types.proto: DT_FLOAT


def _field(number: int, value: int | str | bytes) -> bytes:
    """One field of a protobuf message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    value &= 2**64 - 1
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def _shape(*sizes: int) -> bytes:
    return b"".join(_field(2, _field(1, size)) for size in sizes)


def _node(name: str, operation: str, *inputs: str, **attributes: bytes) -> bytes:
    """The field ``node`` of a GraphDef. Source: tensorflow/core/framework/node_def.proto."""
    parts = [_field(1, name), _field(2, operation), *(_field(3, source) for source in inputs)]
    parts += [_field(5, _field(1, key) + _field(2, value)) for key, value in attributes.items()]
    return _field(1, b"".join(parts))


def dense_layers(weights: Sequence[np.ndarray[Any, Any]], *, min_consumer: int = 0) -> bytes:
    """A GraphDef of ``x`` [batch, n] to ``y``: for each matrix of n by n numbers, ReLU of the product with it."""
    size = len(weights[0])
    real = _field(6, _FLOAT)
    nodes = [_node("x", "Placeholder", dtype=real, shape=_field(7, _shape(-1, size)))]
    before = "x"
    for number, matrix in enumerate(weights):
        content = _field(1, _FLOAT) + _field(2, _shape(size, size)) + _field(4, matrix.astype("<f4").tobytes())
        after = "y" if number == len(weights) - 1 else f"relu{number}"
        nodes += [
            _node(f"weights{number}", "Const", dtype=real, value=_field(8, content)),
            _node(f"product{number}", "MatMul", before, f"weights{number}", T=real),
            _node(after, "Relu", f"product{number}", T=real),
        ]
        before = after
    return b"".join(nodes) + _field(4, _field(1, 1000) + _field(2, min_consumer))  # versions


def serialize_saved_model(
    inputs: Mapping[str, tuple[int, ...]],
    outputs: Mapping[str, tuple[int, ...]],
    *,
    tags: Sequence[str] = ("serve",),
    graph: bytes = b"",
) -> bytes:
    """A ``saved_model.pb`` with a graph and one signature, whose tensors are FP32.

    Source: tensorflow/core/protobuf/{saved_model,meta_graph}.proto.
    """
    signature = b"".join(
        _field(number, _field(1, name) + _field(2, _field(2, _FLOAT) + _field(3, _shape(*shape))))
        for number, tensors in ((1, inputs), (2, outputs))
        for name, shape in tensors.items()
    )
    info = b"".join(_field(4, tag) for tag in tags) + _field(5, "2.17.0")
    meta_graph = _field(1, info) + _field(2, graph) + _field(5, _field(1, "serving_default") + _field(2, signature))
    return _field(1, 1) + _field(2, meta_graph)
