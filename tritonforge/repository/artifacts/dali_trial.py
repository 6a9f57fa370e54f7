"""Run a DALI pipeline on made-up samples, and compare its outputs with what the definition states.

A ``model.dali`` declares the element type and the number of dimensions of its outputs at most; extents are known only
when it runs, and DALI compares a declared type with the real one only then, at the first request. So the pipeline runs
here, on the CPU, on two samples of different size: an extent that is the same for both does not depend on the sample.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from tritonforge.datatypes import BY_CONFIG, TYPE_UINT8
from tritonforge.model_files import dali_pipeline
from tritonforge.model_files.signature import Difference, Signature, TensorSpec, compare_signatures
from tritonforge.repository.artifacts.signature_check import build_specs
from tritonforge.repository.definition.models import Dali
from tritonforge.repository.definition.tensors import Input

__all__ = ["compare_outputs"]

#: Extents of the two samples where a definition leaves them open: small, but enough for the usual crops and windows.
_EXTENTS: Final = ((320, 288), (272, 352))
#: The extent of a sample that has one dimension: a second of sound, for example.
_LENGTHS: Final = (16_000, 12_000)


def compare_outputs(model: Dali, data: bytes) -> list[str]:
    """Return one sentence for each output that is not what the definition states.

    Nothing is compared where DALI is not installed, the pipeline needs a GPU, or it cannot process the samples: their
    content is made up.
    """
    try:
        from nvidia.dali.pipeline import Pipeline
    except ImportError:
        return []
    undeclared = dali_pipeline.without_declared_outputs(dali_pipeline.on_cpu(data))
    decodes = any(name in operator.name for operator in dali_pipeline.parse(data).op for name in ("Image", "image"))
    runs = []
    for number in range(len(_EXTENTS)):
        samples = {tensor.name: _sample(model, tensor, number, decodes=decodes) for tensor in model.input}
        if any(sample is None for sample in samples.values()):
            return []
        try:
            runs.append(_run(Pipeline, undeclared, samples))
        # DALI and its plugins raise what they like: the samples are no proof against a pipeline.
        except Exception:
            return []
    batched = model.max_batch_size > 0
    stated = Signature((), build_specs(model.output, batched=batched))
    found = Signature((), [_merge(first, second) for first, second in zip(*runs, strict=True)], positional_outputs=True)
    differences = compare_signatures(stated, found, batched=batched)
    return [sentence for difference in differences for sentence in _describe(difference, model)]


def _run(pipeline_class: Any, data: bytes, samples: dict[str, Any]) -> list[TensorSpec]:
    """Return each output of one run, with the shape of a batch."""
    options = {"batch_size": 1, "num_threads": 1, "device_id": None, "prefetch_queue_depth": 1}
    pipeline = pipeline_class.deserialize(serialized_pipeline=data, exec_async=False, exec_pipelined=False, **options)
    for name, sample in samples.items():
        pipeline.feed_input(name, [sample])
    specs = []
    for index, output in enumerate(pipeline.run()):
        shape = [int(size) for size in output.as_cpu().at(0).shape]
        specs.append(TensorSpec(str(index), dali_pipeline.DATA_TYPES.get(int(output.dtype)), [-1, *shape]))
    return specs


def _merge(first: TensorSpec, second: TensorSpec) -> TensorSpec:
    """Return what two runs have in common: extents that depend on the sample are open, and so is a rank that does."""
    left, right = first.shape or (), second.shape or ()
    if len(left) != len(right):
        return replace(first, shape=None)
    return replace(first, shape=[a if a == b else -1 for a, b in zip(left, right, strict=True)])


def _describe(difference: Difference, model: Dali) -> Iterator[str]:
    stated, found = difference.stated, difference.found
    if stated is None or found is None:
        return  # another number of outputs, which `signature_check` reports
    where = f"{model.name}: output {stated.name!r}"
    if difference.kind == "data_type":
        yield f"{where} is stated as {stated.data_type}, but its pipeline gives {found.data_type}"
        return
    batched = model.max_batch_size > 0
    dims, shape = (list(spec.shape or ())[1 if batched else 0 :] for spec in (stated, found))
    reshaped = any(tensor.name == stated.name and tensor.reshape is not None for tensor in model.output)
    varies = " (-1 varies with the input)" if -1 in list(found.shape or ())[1:] else ""
    yield (f"{where} is stated with {'reshape' if reshaped else 'dims'} {dims}, but its pipeline gives {shape}{varies}")


def _sample_dims(model: Dali, tensor: Input) -> tuple[int, ...] | None:
    """The dims of one sample: with ``max_batch_size`` 0 the batch is the first of the dims."""
    dims = tensor.reshape if tensor.reshape is not None else tensor.dims
    if dims is None:
        return None
    return tuple(dims) if model.max_batch_size > 0 else tuple(dims[1:])


def _sample(model: Dali, tensor: Input, number: int, *, decodes: bool) -> Any:
    """One made-up sample of an input: an image file for a decoder, else ones; None where type or dims are open."""
    import numpy as np

    dims = _sample_dims(model, tensor)
    if dims is None or tensor.data_type is None or tensor.data_type not in dali_pipeline.NUMBERS:
        return None
    if decodes and dims == (-1,) and tensor.data_type == TYPE_UINT8:
        return np.frombuffer(_png(*_EXTENTS[number]), np.uint8)
    extents = (_LENGTHS[number],) if len(dims) == 1 else (*_EXTENTS[number], *(3 for _ in dims))
    shape = [extents[axis] if extent == -1 else extent for axis, extent in enumerate(dims)]
    return np.ones(shape, BY_CONFIG[tensor.data_type].dtype)


def _png(height: int, width: int) -> bytes:
    """A picture of one colour as a PNG file (RFC 2083): DALI's decoders tell formats by their first bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # eight bits of red, green and blue
    rows = (b"\0" + b"\x80\x90\xa0" * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
