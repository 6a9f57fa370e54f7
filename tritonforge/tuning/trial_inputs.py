"""The inputs of a trial's requests: those of golden cases beside the definition, or random numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tritonforge.datatypes import BY_WIRE
from tritonforge.errors import CaseError, EncodeError
from tritonforge.golden_tests.case_files import CaseDirectory
from tritonforge.inference.transports import ModelMetadata, TensorMetadata

__all__ = ["Inputs", "find_inputs", "generate_inputs", "read_case_inputs"]

Array = npt.NDArray[Any]
#: The arrays of one request by input.
Inputs = Mapping[str, Array]

#: Different requests of random numbers, so that a response cache does not answer all of them.
_GENERATED: Final = 16


def find_inputs(cases: CaseDirectory, metadata: ModelMetadata, *, is_outermost: bool, rows: int) -> list[Inputs]:
    """Return the inputs of the model's golden cases; of a model without cases, random numbers.

    Args:
        cases: the directory of the cases; it may be missing.
        metadata: the model's.
        is_outermost: whether cases without a model's name are of this model.
        rows: of a generated request to a model that batches.

    Raises:
        CaseError: a case cannot be read.
        EncodeError: an input cannot be generated, or a case does not fit the model.
    """
    inputs = read_case_inputs(cases, metadata, is_outermost=is_outermost) if cases.folder.is_dir() else []
    return inputs or generate_inputs(metadata, rows=rows)


def read_case_inputs(cases: CaseDirectory, metadata: ModelMetadata, *, is_outermost: bool) -> list[Inputs]:
    """Return the inputs of the cases that expect an answer from this model. Raises as `find_inputs` does."""
    known = {tensor.name: tensor for tensor in metadata.inputs}
    collected: list[Inputs] = []
    for name in cases.list_names():
        case = cases.read_case(name)
        if case.error is not None or not (case.model == metadata.name or (case.model is None and is_outermost)):
            continue
        unknown = sorted(set(case.inputs) - set(known))
        if unknown:
            raise CaseError(
                f"{name}: inputs.{unknown[0]}: {metadata.name} has no such input (expected {', '.join(known)})"
            )
        collected.append({key: cases.read_tensor(source, known[key]) for key, source in case.inputs.items()})
    return collected


def generate_inputs(metadata: ModelMetadata, *, rows: int) -> list[Inputs]:
    """Return requests of random numbers: from 0 to 1 for floats, from 0 to 100 for integers; variable extents are 1.

    Raises:
        EncodeError: an input is text, or bytes of variable length such as an encoded image, whose content matters.
    """
    generator = np.random.default_rng(0)
    return [
        {tensor.name: _generate_tensor(tensor, metadata.name, rows, generator) for tensor in metadata.inputs}
        for _ in range(_GENERATED)
    ]


def _generate_tensor(tensor: TensorMetadata, model: str, rows: int, generator: np.random.Generator) -> Array:
    row = BY_WIRE.get(tensor.datatype)
    is_encoded = tensor.datatype == "UINT8" and tensor.shape[-1:] == (-1,)
    if row is None or row.numpy is None or tensor.datatype == "BYTES" or is_encoded:
        raise EncodeError(
            f"{model}: input {tensor.name!r} ({tensor.datatype} {list(tensor.shape)}) cannot be generated, since its "
            "content matters. Write a golden case for it: tests/NAME.json beside the definition."
        )
    extents: Sequence[int] = tensor.shape
    shape = [rows if place == 0 and extent == -1 else max(extent, 1) for place, extent in enumerate(extents)]
    if np.dtype(row.numpy).kind in "biu":
        return generator.integers(0, 2 if row.wire == "BOOL" else 100, shape).astype(row.numpy)
    return generator.random(shape).astype(row.numpy)
