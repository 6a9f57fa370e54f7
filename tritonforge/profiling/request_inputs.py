"""Values for a model's inputs, generated from its metadata: datatypes, shapes, text. This module does no I/O.

The values are random and repeat with their seed. They are within the range that any model takes: numbers from 0 to 1,
bytes from 0 to 255, integers 0 and 1 (an index of a table is in range), short texts.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge.datatypes import BY_WIRE
from tritonforge.errors import EncodeError
from tritonforge.inference.transports import ModelMetadata, TensorMetadata

__all__ = ["describe_inputs", "generate_inputs"]

Array = npt.NDArray[Any]

#: Elements of a generated tensor; a shape beyond it is a mistake.
_MOST_ELEMENTS: Final = 2**28


def generate_inputs(
    metadata: ModelMetadata,
    *,
    batch_size: int = 1,
    shapes: Mapping[str, Sequence[int]] | None = None,
    excluded: Collection[str] = (),
    seed: int = 0,
) -> dict[str, Array]:
    """Return a value for each input of a model.

    Args:
        metadata: the model's.
        batch_size: the first dimension, of models that batch.
        shapes: the dimensions of inputs, without the batch dimension. Default: those of the metadata, with 1 for -1.
        excluded: inputs that get no value.
        seed: of the random numbers.

    Raises:
        EncodeError: a shape does not fit its input, or the model does not batch.
    """
    shapes = shapes or {}
    names = [tensor.name for tensor in metadata.inputs]
    for name in shapes:
        if name not in names:
            raise EncodeError(f"shape: the model has no input {name!r} (expected {', '.join(names)})")
    generator = np.random.default_rng(seed)
    return {
        tensor.name: _generate(tensor, _choose_shape(tensor, metadata, batch_size, shapes.get(tensor.name)), generator)
        for tensor in metadata.inputs
        if tensor.name not in excluded
    }


def describe_inputs(inputs: Mapping[str, Array]) -> str:
    """Return inputs as a part of a sentence: name, datatype and shape of each one."""
    from tritonforge.datatypes import from_numpy

    parts = []
    for name, array in inputs.items():
        datatype = from_numpy(array.dtype)
        parts.append(f"{name} {datatype.wire if datatype is not None else array.dtype} {list(array.shape)}")
    return ", ".join(parts)


def _choose_shape(
    tensor: TensorMetadata, metadata: ModelMetadata, batch_size: int, dims: Sequence[int] | None
) -> tuple[int, ...]:
    shape = tensor.shape
    # A SageMaker address does not report max_batch_size; a batch dimension is -1 there.
    has_batch = shape[:1] == (-1,) if metadata.max_batch_size is None else metadata.max_batch_size > 0
    if not has_batch and batch_size > 1:
        raise EncodeError(f"{metadata.name}: it has no batch dimension (max_batch_size 0). Send batches of 1")
    if metadata.max_batch_size and batch_size > metadata.max_batch_size:
        raise EncodeError(f"{metadata.name}: max_batch_size is {metadata.max_batch_size}, got a batch of {batch_size}")
    inner = shape[1:] if has_batch else shape
    if dims is not None:
        fits = len(dims) == len(inner) and all(extent in (-1, given) for extent, given in zip(inner, dims, strict=True))
        if not fits or any(given < 0 for given in dims):
            raise EncodeError(f"shape of {tensor.name}: expected {list(inner)}, got {list(dims)}")
        inner = tuple(dims)
    chosen = tuple(1 if extent < 0 else extent for extent in inner)
    if math.prod(chosen) * batch_size > _MOST_ELEMENTS:
        raise EncodeError(f"shape of {tensor.name}: {list(chosen)} has too many elements (expected at most 2**28)")
    return (batch_size, *chosen) if has_batch else chosen


def _generate(tensor: TensorMetadata, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    datatype = BY_WIRE.get(tensor.datatype)
    if datatype is None:
        raise EncodeError(f"input {tensor.name!r}: {tensor.datatype!r:.40} is not a KServe datatype. Give it a value")
    if datatype.kind == "bytes":
        array = np.empty(shape, dtype=object)
        for index in np.ndindex(*shape):
            array[index] = f"text {generator.integers(1000)}".encode()
        return array
    if datatype.kind == "float":
        return np.asarray(generator.random(shape)).astype(datatype.dtype)
    highest = 256 if datatype.wire == "UINT8" else 2
    return np.asarray(generator.integers(0, highest, shape)).astype(datatype.dtype)
