"""Run a DALI pipeline on made-up samples, and compare its outputs with what the definition states.

A ``model.dali`` declares the element type and the number of dimensions of its outputs at most; extents are known only
when it runs, and DALI compares a declared type with the real one only then, at the first request. So the pipeline runs
here, on the CPU, on two samples of different size: an extent that is the same for both does not depend on the sample.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tritonforge.datatypes import BY_CONFIG, TYPE_UINT8
from tritonforge.model_files import dali_pipeline
from tritonforge.repository.definition.models import Dali
from tritonforge.repository.definition.tensors import Input, Output

__all__ = ["compare_outputs"]

#: Extents of the two samples where a definition leaves them open: small, but enough for the usual crops and windows.
_EXTENTS: Final = ((320, 288), (272, 352))
#: The extent of a sample that has one dimension: a second of sound, for example.
_LENGTHS: Final = (16_000, 12_000)


@dataclass(frozen=True, slots=True)
class _Observed:
    """One output of one run: a config name of its element type, and the shape of one sample."""

    data_type: str | None
    shape: tuple[int, ...]


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
    return list(_differences(model, runs))


def _run(pipeline_class: Any, data: bytes, samples: dict[str, Any]) -> list[_Observed]:
    options = {"batch_size": 1, "num_threads": 1, "device_id": None, "prefetch_queue_depth": 1}
    pipeline = pipeline_class.deserialize(serialized_pipeline=data, exec_async=False, exec_pipelined=False, **options)
    for name, sample in samples.items():
        pipeline.feed_input(name, [sample])
    observed = []
    for output in pipeline.run():
        sample = output.as_cpu().at(0)
        data_types = [name for name, number in dali_pipeline.NUMBERS.items() if number == int(output.dtype)]
        observed.append(_Observed(data_types[0] if data_types else None, tuple(int(size) for size in sample.shape)))
    return observed


def _differences(model: Dali, runs: Sequence[Sequence[_Observed]]) -> Iterator[str]:
    if any(len(run) != len(model.output) for run in runs):
        return  # told already, in the words of the agreement
    for place, stated in enumerate(model.output):
        found = [run[place] for run in runs]
        where = f"{model.name}: output {stated.name!r}"
        data_type = found[0].data_type
        if stated.data_type is not None and data_type is not None and stated.data_type != data_type:
            yield f"{where} is stated as {stated.data_type}, but its pipeline gives {data_type}"
        dims = _sample_dims(model, stated)
        if dims is None or len({len(each.shape) for each in found}) > 1:
            continue
        shape = tuple(
            sizes[0] if len(set(sizes)) == 1 else -1 for sizes in zip(*(each.shape for each in found), strict=True)
        )
        same = len(dims) == len(shape) and all(a == b or -1 in (a, b) for a, b in zip(dims, shape, strict=True))
        if not same:
            batch = [] if model.max_batch_size > 0 else [-1]
            said = "reshape" if stated.reshape is not None else "dims"
            varies = " (-1 varies with the input)" if -1 in shape else ""
            yield f"{where} is stated with {said} {[*batch, *dims]}, but its pipeline gives {[*batch, *shape]}{varies}"


def _sample_dims(model: Dali, tensor: Input | Output) -> tuple[int, ...] | None:
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
